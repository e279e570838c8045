"""Finds the body of a function. For workers only: it loads all that bodies need."""

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
"""By function: its module in this package, and the class there."""

_loaded: dict[str, Body] = {}


def find(name: str) -> Body:
    """The body of a function; raises LookupError for a name that has none here."""
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
    """All names that have a body."""
    return frozenset(LOCATIONS)


def wipe_all() -> None:
    """Erase what bodies keep of the jobs so far."""
    for body in _loaded.values():
        body.wipe()


def load_all() -> None:
    """Load everything that any body needs, so that forked workers share it.

    What is not installed is left out: the daemon does not offer it.
    """
    # numpy's OpenBLAS starts a thread for each CPU when it is loaded, and who forks must have one.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in LOCATIONS:
        try:
            find(name)
        except LookupError:
            continue
