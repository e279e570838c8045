"""The configuration file: TOML text to typed sections, strict. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ktaskd.governor.settings import ANSWERS, ORDERED, USER_ANSWERS, GovernorSettings
from ktaskd.host.unixsock import PATH_BYTES_MAX
from ktaskd.jobs.disks import DiskLimits, NamedDisksInvalid, parse_named
from ktaskd.jobs.registry import JobLimits

SectionT = TypeVar("SectionT")

LOG_LEVELS = ("debug", "info", "warning", "error")
IDLE_GROUPS = ("auto", "never")

NUMBER_MAX = 10**9
"""Of any number: seconds, connections, jobs."""

WORKERS_MAX = 4096
"""Every place for a worker takes a page of memory before there is one in it."""

_WORKERS = frozenset({"workers.helpers_per_node", "workers.warm", "workers.leads", "workers.leads_per_uid"})
_NOT_ZERO = frozenset(
    {
        "sockets.connections",
        "sockets.connections_per_uid",
        "sockets.handoffs",
        "sockets.handoffs_per_uid",
        "sockets.streams",
        "sockets.calls_per_uid",
        "sockets.handles_per_uid",
        # What is measured over no time at all is nothing.
        "governor.pressure_window_s",
    }
)
"""With none of these nobody could use the daemon, not even to change that."""


class ConfigError(Exception):
    """The file is wrong; the message has the file and the key's path."""


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Who may connect, and how often.

    Args:
        mode: of both sockets, octal digits; "auto" = 0660 if the daemon is root
            and the group exists, else 0600.
        group: that owns the sockets where mode lets it in.
        connections, connections_per_uid: gRPC connections at one time.
        handoffs, handoffs_per_uid: connections to the handoff socket at one time.
        streams: calls at one time on one gRPC connection.
        calls_per_uid: calls of one uid at one time, on all its connections.
        handles_per_uid: handed over descriptors at one time.
        watch_stall_s: a stream whose reader takes nothing for so long is cut;
            0 = never.
    """

    mode: str = "auto"
    group: str = "ktask"
    connections: int = 2000
    connections_per_uid: int = 500
    handoffs: int = 2000
    handoffs_per_uid: int = 500
    streams: int = 1000
    calls_per_uid: int = 1024
    handles_per_uid: int = 4096
    watch_stall_s: float = 30.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How many workers there are, and who they are.

    Args:
        user: that workers become if the daemon is root; where there is no such
            user, or "", only uid 0 may run jobs.
        helpers_per_node: most helpers of one node; 0 = one for each CPU.
        warm: helpers of each node, and leads, that are kept while there is
            nothing to do; 0 = none, so that the next job waits for a start.
        idle_timeout_s: time without work after which a worker beyond the warm
            ones ends; 0 = it stays.
        helpers_socket: where `ktaskd --pool-hosts` listens, which then starts the
            helpers' pool hosts; "" = the daemon does.
        idle_group: "auto" = helpers get a cgroup with cpu.idle where one may be
            made; "never" = no cgroup is made for them.
        leads: most leads that use a CPU at one time; 0 = one for each CPU.
        leads_per_uid: the same for one uid; 0 = as many as there are.
        cancel_grace_s: time for a worker to give back its chunk before it is killed.
        fence_s: time for a killed worker to be seen dead.
        hang_cpu_s: CPU time that a worker may use without getting on, before it
            is killed; 0 = no limit.
        starvation_s: a job that nobody waits for gets a lead when it has made no
            progress for so long; 0 = never.
    """

    user: str = "ktaskd"
    helpers_per_node: int = 0
    warm: int = 1
    idle_timeout_s: float = 60.0
    helpers_socket: str = ""
    idle_group: str = "auto"
    leads: int = 0
    leads_per_uid: int = 0
    cancel_grace_s: float = 5.0
    fence_s: float = 10.0
    hang_cpu_s: float = 60.0
    starvation_s: float = 60.0


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """Functions that are not built in.

    Args:
        dir: whose *.toml declare native functions; "" = none.
    """

    dir: str = "/etc/ktaskd/functions.d"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The daemon itself.

    Args:
        idle_exit_s: end after so long without a connection and a job, but not while a mode is set or
            the result of a detached job is kept; 0 = never.
        stop_s: time for jobs to be stopped and undone when the daemon ends.
        log_level: "debug", "info", "warning" or "error".
    """

    idle_exit_s: float = 0.0
    stop_s: float = 20.0
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; each section is a frozen dataclass."""

    sockets: SocketSettings = field(default_factory=SocketSettings)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    jobs: JobLimits = field(default_factory=JobLimits)
    disks: DiskLimits = field(default_factory=DiskLimits)
    governor: GovernorSettings = field(default_factory=GovernorSettings)
    functions: FunctionSettings = field(default_factory=FunctionSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)


def load_config(
    path: Path | None,
    *,
    idle_exit_s: float | None = None,
    helpers_socket: str | None = None,
    own_user: bool = False,
    private: bool = False,
) -> Config:
    """The configuration of a file; the defaults where there is none.

    Args:
        idle_exit_s: takes the place of daemon.idle_exit_s; None = does not.
        helpers_socket: takes the place of workers.helpers_socket; None = does not.
        own_user: workers.user counts as "", and sockets.mode "auto" is 0600 whatever groups there are.
        private: the sockets are 0600, whatever the file says.
    Raises:
        ConfigError: it cannot be read, is no TOML, has an unknown key or a
            value of a wrong type or out of bounds.
    """
    config = Config() if path is None else _read_config(path)
    if own_user:
        config = replace(config, workers=replace(config.workers, user=""))
    if private or (own_user and config.sockets.mode == "auto"):
        config = replace(config, sockets=replace(config.sockets, mode="0600", group=""))
    if helpers_socket is not None:
        _check_path("--helpers-socket", helpers_socket)
        config = replace(config, workers=replace(config.workers, helpers_socket=helpers_socket))
    if idle_exit_s is None:
        return config
    _check_number("--idle-exit", idle_exit_s)
    return replace(config, daemon=replace(config.daemon, idle_exit_s=idle_exit_s))


def _read_config(path: Path) -> Config:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    # A number of too many digits is a bare ValueError, as is a text that is not UTF-8.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        return parse_config(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(raw: Mapping[str, Any]) -> Config:
    """The configuration of parsed TOML; raises ConfigError."""
    types = get_type_hints(Config)
    _check_known(raw, list(types), "")
    sections = {name: _load_section(types[name], raw.get(name, {}), name) for name in types}
    config = Config(**sections)
    _check_values(config)
    return config


def _check_known(raw: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in raw:
        if key not in known:
            raise ConfigError(f"{where}{key}: unknown key (known: {', '.join(known)})")


def _load_section(section: type[SectionT], raw: object, where: str) -> SectionT:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: got {type(raw).__name__}, wanted a table")
    types = get_type_hints(section)
    _check_known(raw, list(types), f"{where}.")
    return section(**{key: _typed(value, types[key], f"{where}.{key}") for key, value in raw.items()})


def _typed(value: object, wanted: type, where: str) -> object:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        _check_number(where, value)  # one that is too large for a float, too
        value = float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{where}: got {value!r}, wanted {wanted.__name__}")
    return value


def _check_values(config: Config) -> None:
    for path, value in flatten(config).items():
        if isinstance(value, int | float):
            _check_number(path, value)
        elif "\0" in str(value):
            raise ConfigError(f"{path}: got {value!r}, wanted no NUL in it")
    if config.sockets.mode != "auto" and not re.fullmatch("0?[0-7]{3}", config.sockets.mode):
        raise ConfigError(
            f'sockets.mode: got "{config.sockets.mode}", wanted "auto" or octal digits as "0660"'
        )
    if config.daemon.log_level not in LOG_LEVELS:
        raise ConfigError(f'daemon.log_level: got "{config.daemon.log_level}", wanted one of {LOG_LEVELS}')
    _check_path("workers.helpers_socket", config.workers.helpers_socket)
    if config.functions.dir and not config.functions.dir.startswith("/"):
        raise ConfigError(f'functions.dir: got "{config.functions.dir}", wanted "" or an absolute path')
    if config.workers.idle_group not in IDLE_GROUPS:
        got = config.workers.idle_group
        raise ConfigError(f'workers.idle_group: got "{got}", wanted one of {IDLE_GROUPS}')
    try:
        parse_named(config.disks.named)
    except NamedDisksInvalid as error:
        raise ConfigError(f"disks.named: {error}") from None
    _check_governor(config.governor)


def _check_path(path: str, value: str) -> None:
    if value and not value.startswith("/"):
        raise ConfigError(f'{path}: got "{value}", wanted "" or an absolute path')
    size = len(os.fsencode(value))
    if size > PATH_BYTES_MAX:
        raise ConfigError(f"{path}: got {size} bytes, wanted at most {PATH_BYTES_MAX}")


def _check_governor(settings: GovernorSettings) -> None:
    for key, answers in (("on_battery", ANSWERS), ("power_saver", ANSWERS), ("user_active", USER_ANSWERS)):
        if getattr(settings, key) not in answers:
            raise ConfigError(f'governor.{key}: got "{getattr(settings, key)}", wanted one of {answers}')
    for low, high in ORDERED:
        least, most = getattr(settings, low), getattr(settings, high)
        if least > most:
            raise ConfigError(f"governor.{low}: got {least}, wanted at most governor.{high}, which is {most}")


def _check_number(path: str, value: float) -> None:
    least = 1 if path in _NOT_ZERO else 0
    most = WORKERS_MAX if path in _WORKERS else 100 if path.endswith("_percent") else NUMBER_MAX
    if not least <= value <= most:  # NaN is in no bounds
        raise ConfigError(f"{path}: got {value}, wanted {least} to {most}")


def flatten(config: Config) -> dict[str, object]:
    """Every value by its path, as in "jobs.keep_s"."""
    return {
        f"{section}.{key}": value
        for section, values in dataclasses.asdict(config).items()
        for key, value in values.items()
    }


def format_config(config: Config, given: Mapping[str, Any]) -> str:
    """The effective values as TOML, each with where it came from."""
    lines: list[str] = []
    for section, values in dataclasses.asdict(config).items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value}"
            source = "file" if key in given.get(section, {}) else "default"
            lines.append(f"{key} = {shown}  # {source}")
        lines.append("")
    return "\n".join(lines)
