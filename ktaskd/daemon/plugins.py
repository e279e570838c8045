"""Functions that are not built in: those of installed packages, and manifests of libraries.

A faulty one is reported, and the others still load.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path

from ktaskd.functions.catalogue import CATALOGUE, declarations
from ktaskd.functions.plugins import plugin
from ktaskd.functions.plugins.described import from_json
from ktaskd.functions.plugins.manifests import ManifestInvalid, parse_manifest
from ktaskd.host.files import trusted
from ktaskd.model.function import Declaration
from ktaskd.pool.starting import environment, python

log = logging.getLogger(__name__)

DESCRIBE_S = 60.0
"""Longest time for loading and describing all packages."""

_OTHERS_CODE = "this daemon is not its caller's own: ktask.connect(own=True)"


@dataclass(slots=True)
class Plugins:
    """Functions that were found, and the faults of others.

    Args:
        functions: by name.
        problems: each names the path and the key.
    """

    functions: dict[str, Declaration] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the libraries. A daemon keeps them open as long as it lives."""
        for declaration in self.functions.values():
            _close(declaration)


def _close(declaration: Declaration) -> None:
    if declaration.native is not None:
        os.close(declaration.native.fd)


def offered(
    selftest: bool, directory: str, ids: tuple[int, int], *, own_code: bool = True
) -> tuple[dict[str, Declaration], list[str]]:
    """Return all functions that a daemon offers, and the faults of those that it does not offer.

    Args:
        directory: of manifests; "" = none.
        ids: uid and gid of the process that describes the packages' functions; -1 = ours.
        own_code: whether callers' own code is run; if not, functions that run it are listed as unavailable.
    """
    functions = {
        name: replace(one, unavailable=_OTHERS_CODE) if one.own and not own_code else one
        for name, one in declarations(selftest).items()
    }
    found = read_packages(ids, functions.keys() | CATALOGUE.keys())
    more = read_plugins(directory, functions.keys() | CATALOGUE.keys() | found.functions.keys())
    problems = [*found.problems, *more.problems]
    for problem in problems:
        log.warning('function_refused why="%s"', problem)
    return functions | found.functions | more.functions, [
        f"function not offered: {text}" for text in problems
    ]


def read_packages(ids: tuple[int, int], taken: Iterable[str]) -> Plugins:
    """Have a short-lived process describe the functions of installed packages."""
    found = Plugins()
    ours = [point.name for point in plugin.installed() if _is_ours(point, found.problems)]
    if not ours:
        return found
    try:
        described = json.loads(_describe(ids, ours).rpartition(b"\0")[2])
        found.problems += described["problems"]
        names = set(taken)
        for raw in described["functions"]:
            declaration = from_json(raw)
            if declaration.name in names:
                found.problems.append(f"entry point {declaration.name}: another function has this name")
                continue
            names.add(declaration.name)
            found.functions[declaration.name] = declaration
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        found.problems.append(f"entry points: cannot be described: {type(error).__name__}: {error}")
    return found


def _is_ours(point: EntryPoint, problems: list[str]) -> bool:
    """Whether only root and our own user can have written its code; if not, add the reason to `problems`."""
    place = plugin.install_dir_of(point)
    try:
        os.close(trusted.open_directory(place))
        for place in plugin.code_of(point):
            trusted.check_tree(place)
    except (trusted.Untrusted, OSError) as error:
        problems.append(f"entry point {point.name} ({point.value}): {place}: {error}")
        return False
    return True


def _describe(ids: tuple[int, int], names: Sequence[str]) -> bytes:
    """Run the describing process, as another user if we are root, and return its output."""
    uid, gid = ids if os.geteuid() == 0 and ids[0] > 0 else (None, None)
    done = subprocess.run(
        [*python("ktaskd.functions.plugins.plugin"), *names],
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
    """Read all manifests of a directory, in the order of their names. "" or a missing directory gives none.

    Args:
        taken: names of functions that exist already.
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
                _close(declaration)
                raise ManifestInvalid("name", f'got "{declaration.name}", the name of another function')
        except (ManifestInvalid, trusted.Untrusted) as error:
            found.problems.append(f"{path}: {error}")
            continue
        names.add(declaration.name)
        found.functions[declaration.name] = declaration
    return found


def _read(path: Path) -> Declaration:
    raw = _parsed(path)
    declaration = parse_manifest(raw)
    native = declaration.native
    assert native is not None
    try:
        return replace(declaration, native=replace(native, fd=trusted.open_file(native.library)))
    except OSError as error:
        raise ManifestInvalid("library", f"{native.library}: {error.strerror}") from error
    except trusted.Untrusted as error:
        raise ManifestInvalid("library", f"{native.library}: {error}") from error


def _parsed(path: Path) -> Mapping[str, object]:
    try:
        with open(trusted.open_file(str(path)), encoding="utf-8") as file:
            return tomllib.loads(file.read())
    except OSError as error:
        raise trusted.Untrusted(error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise trusted.Untrusted(f"not TOML: {error}") from error
