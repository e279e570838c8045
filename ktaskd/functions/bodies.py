"""Finds the body of a function. For workers only: it loads all that bodies need."""

from __future__ import annotations

from collections.abc import Mapping

from ktaskd.functions.body import Body
from ktaskd.functions.checksum import Crc32
from ktaskd.functions.filecopy import Copy
from ktaskd.functions.memory import Fill, Populate
from ktaskd.functions.selftest import Crash, Fail, Hang, Noop, Spin, UndoLog

_BODIES: Mapping[str, Body] = {
    "mem.fill": Fill(),
    "mem.populate": Populate(),
    "file.crc32": Crc32(),
    "file.copy": Copy(),
    "selftest.noop": Noop(),
    "selftest.spin": Spin(),
    "selftest.fail": Fail(),
    "selftest.crash": Crash(),
    "selftest.hang": Hang(),
    "selftest.undo_log": UndoLog(),
}


def find(name: str) -> Body:
    """The body of a function; raises LookupError for a name that has none."""
    body = _BODIES.get(name)
    if body is None:
        raise LookupError(f"function {name!r}: this worker has no body for it")
    return body


def names() -> frozenset[str]:
    """All names that have a body."""
    return frozenset(_BODIES)


def wipe_all() -> None:
    """Erase what bodies keep of the jobs so far."""
    for body in _BODIES.values():
        body.wipe()


def load_all() -> None:
    """Load everything that any body needs, so that forked workers share it.

    Importing this module did all of it; the call keeps the import from looking
    unused.
    """
