"""Finds the body of a function. For workers only: it loads everything that bodies need."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

from ktaskd.functions.body import Body

LOCATIONS: Mapping[str, str] = {
    "mem.fill": "memory.fill:Fill",
    "mem.populate": "memory.fill:Populate",
    "mem.copy": "files.filecopy:MemCopy",
    "mem.pattern": "memory.pattern:Pattern",
    "file.crc32": "checksums.checksum:Crc32",
    "file.crc32c": "checksums.crc32c:Crc32c",
    "file.sha256": "checksums.digests:Sha256",
    "file.sha512": "checksums.digests:Sha512",
    "file.blake3": "checksums.digests:Blake3",
    "file.xxh3": "checksums.digests:Xxh3",
    "file.manifest": "checksums.digests:Manifest",
    "file.verify": "checksums.digests:Verify",
    "file.copy": "files.filecopy:Copy",
    "file.allocate": "files.allocate:Allocate",
    "file.punch": "files.allocate:Punch",
    "file.warm": "files.warm:Warm",
    "file.compare": "files.compare:Compare",
    "file.compress": "archives.compress:Compress",
    "file.decompress": "archives.decompress:Decompress",
    "text.search": "text.search:Search",
    "text.extract": "text.extract:Extract",
    "array.reduce": "arrays.reduce:Reduce",
    "array.map": "arrays.elementwise:Map",
    "python.run": "own.run:Run",
    "python.calls": "own.calls:Calls",
    "selftest.noop": "selftest:Noop",
    "selftest.spin": "selftest:Spin",
    "selftest.fail": "selftest:Fail",
    "selftest.crash": "selftest:Crash",
    "selftest.hang": "selftest:Hang",
    "selftest.undo_log": "selftest:UndoLog",
}
"""The module in this package and the class of each function, by its name."""

_loaded: dict[str, Body] = {}


def find(name: str) -> Body:
    """The body of a function; raises LookupError if this worker has none of that name."""
    body = _loaded.get(name)
    return body if body is not None else _load(name)


def _load(name: str) -> Body:
    if name not in LOCATIONS:
        raise LookupError(f"function {name!r}: this worker has no body for it")
    module, _, kind = LOCATIONS[name].partition(":")
    try:
        body: Body = getattr(importlib.import_module(f"ktaskd.functions.{module}"), kind)()
    except ImportError as error:
        raise LookupError(f"function {name!r}: cannot be loaded: {error}") from error
    _loaded[name] = body
    return body


def names() -> frozenset[str]:
    """All names of functions with a body."""
    return frozenset(LOCATIONS)


def wipe_all() -> None:
    """Erase everything that bodies keep from the jobs so far."""
    for body in _loaded.values():
        body.wipe()


def load_all() -> None:
    """Load everything that any body needs, so that forked workers share it.

    Skips bodies whose packages are not installed: the daemon does not offer those functions.
    """
    # numpy's OpenBLAS starts a thread for each CPU when it is loaded, but a process that forks
    # must have only one.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in LOCATIONS:
        try:
            find(name)
        except LookupError:
            continue
