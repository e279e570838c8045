"""`ktaskd --check-config`: where each value comes from, and which values this machine cannot satisfy.

A daemon starts in spite of such values and does without, as its status says: somebody may create the
user later. The check reports them at once.
"""

from __future__ import annotations

import dataclasses
import grp
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping

from ktaskd.daemon import hostconfig
from ktaskd.daemon.config import Config, Given, flatten, load_config
from ktaskd.daemon.metering import group_id, why_no_library
from ktaskd.daemon.plugins import read_plugins
from ktaskd.daemon.settings import MetricsSettings
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.host.root import HostRoot
from ktaskd.host.topology import read_topology
from ktaskd.intake.disk_limits import parse_named

FILE, DEFAULT = "file", "default"


def sources(given: Given) -> dict[str, str]:
    """Return where each value comes from, by its path: FILE, DEFAULT, or the option that replaces it.

    Raises:
        ConfigError: the configuration is wrong.
    """
    config = load_config(given.path)
    raw = tomllib.loads(given.path.read_text(encoding="utf-8")) if given.path else {}
    found = dict.fromkeys(flatten(config), DEFAULT)
    found |= {f"{section}.{key}": FILE for section, values in raw.items() for key in values}
    if given.own_user:
        found["workers.user"] = "--own-user"
    if given.private or (given.own_user and config.sockets.mode == "auto"):
        found["sockets.mode"] = found["sockets.group"] = "--own-user"
    if given.helpers_socket is not None:
        found["workers.helpers_socket"] = "--helpers-socket"
    if given.idle_exit_s is not None:
        found["daemon.idle_exit_s"] = "--idle-exit"
    return found


def problems(given: Given, source_of: Mapping[str, str], root: HostRoot) -> list[str]:
    """Return the values that were set and that this machine cannot satisfy, each with its place.

    Args:
        source_of: as `sources` returns it. Defaults are not checked.
    """
    config = given.load()
    asked = {path for path, source in source_of.items() if source != DEFAULT}
    found = (
        ("workers.user", _user(config)),
        ("sockets.group", _group(config)),
        ("workers.helpers_socket", _helpers_socket(config.workers.helpers_socket)),
        *(("functions.dir", text) for text in _functions(config.functions.dir)),
        *(("disks.named", text) for text in _disks(config.disks.named, root)),
        *_numbers(config, root),
        *_metrics(config.metrics),
    )
    named = {path: f"{given.path}: {path}" if source_of[path] == FILE else source_of[path] for path in asked}
    return [f"{named[path]}: {text}" for path, text in found if text and path in asked]


def _user(config: Config) -> str:
    """Return why a daemon of root would have no workers for other users; "" if it has."""
    user = hostconfig.worker_user(config.workers, 0)
    return "" if user.wanted else user.refusal


def _group(config: Config) -> str:
    name = config.sockets.group
    mode = config.sockets.mode
    if not name or (mode != "auto" and not int(mode, 8) & 0o070):
        return ""  # the mode gives the group no access
    try:
        grp.getgrnam(name)
    except KeyError:
        return f'there is no group "{name}" to own the sockets; create it (groupadd --system {name})'
    return ""


def _helpers_socket(path: str) -> str:
    if not path:
        return ""
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        return f"{path}: {error.strerror}; start ktaskd-helpers.socket"
    return "" if is_socket else f"{path}: is no socket; wanted that of ktaskd-helpers.socket"


def _functions(directory: str) -> Iterator[str]:
    """Read the directory and its manifests; return the faults of each."""
    if directory and not os.path.isdir(directory):
        yield f'{directory}: no such directory; make it, or set it to ""'
        return
    plugins = read_plugins(directory, CATALOGUE)
    plugins.close()
    yield from plugins.problems


def _disks(named: str, root: HostRoot) -> Iterator[str]:
    for name in parse_named(named):
        if not os.path.exists(root.sys / "block" / name):
            yield f'there is no disk "{name}"; `lsblk --nodeps` lists them'


def _numbers(config: Config, root: HostRoot) -> Iterator[tuple[str, str]]:
    """Find numbers of workers that exceed the CPUs: there is at most one helper for each CPU."""
    topology = read_topology(root, frozenset(os.sched_getaffinity(0)))
    most, wanted = max(len(node.cpus) for node in topology.nodes), config.workers.helpers_per_node
    if wanted > most:
        yield "workers.helpers_per_node", f"got {wanted}, wanted at most {most}: no node has more CPUs"
    leads, one_uid = config.workers.leads or len(topology.cpus), config.workers.leads_per_uid
    if one_uid > leads:
        yield "workers.leads_per_uid", f"got {one_uid}, wanted at most {leads}: there are no more leads"


def _metrics(settings: MetricsSettings) -> Iterator[tuple[str, str]]:
    for path, value in (("metrics.socket", settings.socket), ("metrics.textfile", settings.textfile)):
        if not value:
            continue
        directory = os.path.dirname(value)
        if not os.path.isdir(directory):
            yield path, f"{directory}: no such directory; make it"
        yield path, why_no_library()
    if settings.socket and settings.socket_group:
        try:
            group_id(settings.socket_group)
        except OSError as error:
            yield "metrics.socket_group", str(error.strerror)


def format_config(config: Config, source_of: Mapping[str, str]) -> str:
    """Format the effective values as TOML, each with its origin.

    Args:
        source_of: origins in words, by path.
    """
    lines: list[str] = []
    for section, values in dataclasses.asdict(config).items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            shown = _quoted(value) if isinstance(value, str) else f"{value}"
            lines.append(f"{key} = {shown}  # {source_of[f'{section}.{key}']}")
        lines.append("")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Quote a string for TOML, which differs from JSON only in DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
