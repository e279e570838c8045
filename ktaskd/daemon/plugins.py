"""Reads the manifests of native functions; a wrong one is told, and the others still load."""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ktaskd.functions.catalogue import CATALOGUE, declarations
from ktaskd.functions.manifests import ManifestInvalid, parse_manifest
from ktaskd.model.function import Declaration

log = logging.getLogger(__name__)

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


def offered(selftest: bool, directory: str) -> tuple[dict[str, Declaration], list[str]]:
    """All functions that a daemon offers, and what is wrong with those that it does not."""
    functions = dict(declarations(selftest))
    found = read_plugins(directory, CATALOGUE)
    for problem in found.problems:
        log.warning("function_refused %s", problem)
    return functions | found.functions, [f"function not offered: {text}" for text in found.problems]


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
