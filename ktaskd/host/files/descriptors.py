"""Read again what can change about an open file after it was vetted, from the descriptor itself.

The file was vetted as memory or a regular file of a local file system, so no call here can hang.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace

from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, SourceFacts, SourceKind, Stamp


def refreshed(fd: int, facts: SourceFacts) -> SourceFacts:
    """The facts with the length, the flags and the seals that the file has now.

    Every process that shares the open file description can set O_APPEND and O_DIRECT on it, and
    every process with a writable descriptor of the memory can seal it.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    seals = facts.seals if facts.kind is SourceKind.FILE else _seals(fd)
    sealed = seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)
    now = replace(
        facts,
        size=os.fstat(fd).st_size,
        append=bool(flags & os.O_APPEND),
        direct=bool(flags & os.O_DIRECT),
        seals=seals,
        access=facts.access & Access.READ if sealed else facts.access,
    )
    return facts if now == facts else now


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return 0


def read_stamp(fd: int) -> Stamp:
    """Read the size and the times of an open file."""
    status = os.fstat(fd)
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
