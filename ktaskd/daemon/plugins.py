"""Functions that are not built in: what packages have, and manifests of libraries.

A wrong one is told, and the others still load.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ktaskd.functions import plugin
from ktaskd.functions.catalogue import CATALOGUE, declarations
from ktaskd.functions.described import from_json
from ktaskd.functions.manifests import ManifestInvalid, parse_manifest
from ktaskd.model.function import Declaration
from ktaskd.pool.starting import environment, python

log = logging.getLogger(__name__)

DESCRIBE_S = 60.0
"""For all packages to be loaded once and described."""

_OTHERS_CODE = "this daemon is not its caller's own: ktask.connect(own=True)"

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(slots=True)
class Plugins:
    """What was found.

    Args:
        functions: by name.
        problems: each with the path and the key.
    """

    functions: dict[str, Declaration] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def offered(
    selftest: bool, directory: str, ids: tuple[int, int], *, own_code: bool = True
) -> tuple[dict[str, Declaration], list[str]]:
    """All functions that a daemon offers, and what is wrong with those that it does not.

    Args:
        directory: of manifests; "" = none.
        ids: uid and gid of the process that describes what packages have; -1 = ours.
        own_code: code of our own user is run; else what does so is listed as unavailable.
    """
    functions = {
        name: replace(one, unavailable=_OTHERS_CODE) if one.own and not own_code else one
        for name, one in declarations(selftest).items()
    }
    found = read_packages(ids, functions.keys() | CATALOGUE.keys())
    more = read_plugins(directory, functions.keys() | CATALOGUE.keys() | found.functions.keys())
    problems = [*found.problems, *more.problems]
    for problem in problems:
        log.warning("function_refused %s", problem)
    return functions | found.functions | more.functions, [
        f"function not offered: {text}" for text in problems
    ]


def read_packages(ids: tuple[int, int], taken: Iterable[str]) -> Plugins:
    """What installed packages have, as a process of its own says, which ends then."""
    found = Plugins()
    if not plugin.installed():
        return found
    try:
        said = json.loads(_describe(ids).rpartition(b"\0")[2])
        found.problems += said["problems"]
        names = set(taken)
        for raw in said["functions"]:
            declaration = from_json(raw)
            if declaration.name in names:
                found.problems.append(f"entry point {declaration.name}: another function has this name")
                continue
            names.add(declaration.name)
            found.functions[declaration.name] = declaration
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        found.problems.append(f"entry points: cannot be described: {type(error).__name__}: {error}")
    return found


def _describe(ids: tuple[int, int]) -> bytes:
    """What it printed; as another user where we are root and there is one."""
    uid, gid = ids if os.geteuid() == 0 and ids[0] > 0 else (None, None)
    done = subprocess.run(
        python("ktaskd.functions.plugin"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=DESCRIBE_S,
        env=environment(erase=False),
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
    )
    return done.stdout


def read_plugins(directory: str, taken: Iterable[str]) -> Plugins:
    """All manifests of a directory, in the order of their names; "" or none there = nothing.

    Args:
        taken: names that functions have already.
    """
    found = Plugins()
    if not directory:
        return found
    names = set(taken)
    try:
        paths = sorted(path for path in Path(directory).iterdir() if path.name.endswith(".toml"))
    except FileNotFoundError:
        return found
    except OSError as error:
        found.problems.append(f"{directory}: {error.strerror}")
        return found
    for path in paths:
        try:
            declaration = _read(path)
            if declaration.name in names:
                raise ManifestInvalid("name", f'got "{declaration.name}", which another function has')
        except (ManifestInvalid, _Refused) as error:
            found.problems.append(f"{path}: {error}")
            continue
        names.add(declaration.name)
        found.functions[declaration.name] = declaration
    return found


class _Refused(Exception):
    """The file cannot be read, or may have been written by somebody else."""


def _read(path: Path) -> Declaration:
    try:
        _check_owner(path)
        raw: Mapping[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _Refused(error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise _Refused(f"not TOML: {error}") from error
    declaration = parse_manifest(raw)
    assert declaration.native is not None
    try:
        _check_owner(Path(declaration.native.library))
    except OSError as error:
        raise ManifestInvalid("library", f"{declaration.native.library}: {error.strerror}") from error
    except _Refused as error:
        raise ManifestInvalid("library", f"{declaration.native.library}: {error}") from error
    return declaration


def _check_owner(path: Path) -> None:
    """Refuse what anybody but root and the daemon's own user may have written."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _Refused("is no regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise _Refused(f"belongs to uid {status.st_uid}, wanted 0 or {os.geteuid()}")
    if status.st_mode & _OTHERS_WRITE:
        raise _Refused(
            f"others may write it (mode {stat.S_IMODE(status.st_mode):04o}), wanted its owner only"
        )
