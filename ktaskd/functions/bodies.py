"""Finds the body of a function. For workers only: it loads all that bodies need."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

from ktaskd.functions.body import Body

PLACES: Mapping[str, str] = {
    "mem.fill": "memory:Fill",
    "mem.populate": "memory:Populate",
    "mem.copy": "filecopy:MemCopy",
    "mem.pattern": "pattern:Pattern",
    "file.crc32": "checksum:Crc32",
    "file.crc32c": "crc32c:Crc32c",
    "file.sha256": "digests:Sha256",
    "file.blake3": "digests:Blake3",
    "file.xxh3": "digests:Xxh3",
    "file.manifest": "digests:Manifest",
    "file.verify": "digests:Verify",
    "file.copy": "filecopy:Copy",
    "file.allocate": "allocate:Allocate",
    "file.punch": "allocate:Punch",
    "file.warm": "warm:Warm",
    "file.compare": "compare:Compare",
    "file.compress": "compress:Compress",
    "file.decompress": "decompress:Decompress",
    "text.search": "search:Search",
    "array.reduce": "reduce:Reduce",
    "array.map": "elementwise:Map",
    "python.run": "own:Run",
    "python.calls": "calls:Calls",
    "selftest.noop": "selftest:Noop",
    "selftest.spin": "selftest:Spin",
    "selftest.fail": "selftest:Fail",
    "selftest.crash": "selftest:Crash",
    "selftest.hang": "selftest:Hang",
    "selftest.undo_log": "selftest:UndoLog",
}
"""By function: the module beside this one, and the class in it."""

_loaded: dict[str, Body] = {}


def find(name: str) -> Body:
    """The body of a function; raises LookupError for a name that has none here."""
    body = _loaded.get(name)
    return body if body is not None else _load(name)


def _load(name: str) -> Body:
    if name not in PLACES:
        raise LookupError(f"function {name!r}: this worker has no body for it")
    module, _, kind = PLACES[name].partition(":")
    try:
        body: Body = getattr(importlib.import_module(f"ktaskd.functions.{module}"), kind)()
    except ImportError as error:
        raise LookupError(f"function {name!r}: cannot be loaded: {error}") from error
    _loaded[name] = body
    return body


def names() -> frozenset[str]:
    """All names that have a body."""
    return frozenset(PLACES)


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
    for name in PLACES:
        try:
            find(name)
        except LookupError:
            continue
