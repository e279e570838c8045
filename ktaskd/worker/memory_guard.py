"""Stops a chunk that writes memory before the machine runs out of it.

At submission the daemon refuses jobs that need too much memory (`jobs.room`). This guard covers what
was not known then, such as the length of an output, or memory that other programs took since.
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
"""Time between two looks, each of which takes some 30 us. A worker fills about 8 MiB in that time."""

LEFT_PARTS = 64
"""A job never takes the last 1/LEFT_PARTS of the machine's memory, half of the reserve at submission."""


class RoomGuard:
    """Checks the available memory every LOOK_S.

    Args:
        role: role of the source that is written, for the error.
        clock: monotonic seconds.
    """

    def __init__(self, role: str, root: HostRoot, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at the first call."""
        self._role = role
        self._root = root
        self._clock = clock
        self._due_s = 0.0

    def check(self) -> None:
        """Raise OSError (ENOMEM) if too little memory is left to go on."""
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_S
        memory = read_free(self._root)
        if memory is None or memory.available >= memory.total // LEFT_PARTS:
            return
        raise OSError(
            errno.ENOMEM,
            f'source "{self._role}": this machine has only {memory.available} bytes of memory available, and '
            f"jobs leave the last {memory.total // LEFT_PARTS} bytes to others; use smaller ranges or a file "
            "on a disk",
        )


def guard_of(declaration: Declaration, sources: Mapping[str, OpenSource], root: HostRoot) -> RoomGuard | None:
    """The guard of a job that allocates memory in a source that it writes; None for other jobs."""
    if not declaration.allocates:
        return None
    for role in declaration.sources:
        source = sources.get(role.role)
        if source is None or Access.WRITE not in role.access:
            continue
        if source.facts.kind is SourceKind.MEMORY:
            return RoomGuard(role.role, root)
    return None
