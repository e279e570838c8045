"""Stops a chunk that writes memory before the machine has none left.

The daemon refuses what is too much when a job is submitted (`jobs.room`). What was not known
then, as the length of an output, or what other programs took since, is seen here.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping

from ktaskd.functions.body import OpenSource
from ktaskd.host.memory.freemem import read_free
from ktaskd.host.root import HostRoot
from ktaskd.model.function import Access, Declaration
from ktaskd.model.source import SourceKind

LOOK_S = 0.003
"""Between two looks, each of some 30 us. In that time a worker fills about 8 MiB."""

LEFT_PARTS = 64
"""A part of the machine's memory that a job never takes: half of what is left at its submission."""


class RoomGuard:
    """Looks how much memory there is, every LOOK_S.

    Args:
        role: of the source that is written, for the error.
        clock: seconds that only grow.
    """

    def __init__(self, role: str, root: HostRoot, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at the first call."""
        self._role = role
        self._root = root
        self._clock = clock
        self._due_s = 0.0

    def check(self) -> None:
        """Raise OSError (ENOMEM) where there is too little left to go on."""
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_S
        memory = read_free(self._root)
        if memory is None or memory.available >= memory.total // LEFT_PARTS:
            return
        raise OSError(
            errno.ENOMEM,
            f'source "{self._role}": {memory.available} bytes of memory are available on this machine; jobs '
            f"leave the last {memory.total // LEFT_PARTS} to others; use smaller ranges or a file on a disk",
        )


def guard_of(declaration: Declaration, sources: Mapping[str, OpenSource], root: HostRoot) -> RoomGuard | None:
    """The guard of a job that allocates in memory that it writes; None for any other."""
    if not declaration.allocates:
        return None
    for role in declaration.sources:
        source = sources.get(role.role)
        if source is None or Access.WRITE not in role.access:
            continue
        if source.facts.kind is SourceKind.MEMORY:
            return RoomGuard(role.role, root)
    return None
