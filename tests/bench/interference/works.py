"""Work that a client can do itself, single-threaded, or have the daemon do.

The same body does it both times: the client's own process calls it like a
worker does, over everything at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import ktask

from ktaskd.functions import bodies
from ktaskd.functions.body import Context
from ktaskd.worker.sources import Source
from tests.support.sources import facts_of

APART_MAX = 4096
"""The most ranges of a job."""

_FILLER = bytes(range(256)) * 4096


class Alone:
    """Stands for the daemon in a process without one: nobody recalls anything."""

    def quantum(self, position: int) -> bool:
        """Go on."""
        return False

    def rest(self, wanted: int) -> bool:
        return False

    def prior(self, start: int, end: int, holes: object) -> None:
        """Nobody will undo it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One function with its sources.

    Args:
        passes: number of times that it is done, one after the other; each is a job.
        apart: every position is a range of its own, and so a chunk.
    """

    function: str
    total: int
    passes: int = 1
    arg: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, ktask.Memory] = field(default_factory=dict)
    apart: bool = False

    def alone(self) -> None:
        """Do the work in this process, on this thread."""
        with ExitStack() as end:
            opened = {role: end.enter_context(_opened(memory)) for role, memory in self.sources.items()}
            body = bodies.find(self.function)
            for _ in range(self.passes):
                context = Context(dict(self.arg), opened, {}, (0, self.total), False)
                body.run(context, 0, self.total, Alone())

    def waited(self, client: ktask.Client, **more: Any) -> ktask.Job:
        """Have the daemon do the work, and wait; returns the last job."""
        return [client.run(self.function, **self._words(), **more) for _ in range(self.passes)][-1]

    def detached(self, client: ktask.Client) -> ktask.Job:
        """Submit one pass of it, without waiting."""
        return client.submit(self.function, **self._words())

    def _words(self) -> dict[str, Any]:
        return {"arg": dict(self.arg), "ranges": self._ranges(), **self.sources}

    def _ranges(self) -> list[tuple[int, int, int]] | None:
        if self.sources:
            return None
        return [(i, 1, -1) for i in range(self.total)] if self.apart else [(0, self.total, -1)]


@contextmanager
def _opened(memory: ktask.Memory) -> Iterator[Source]:
    # Like the client library: nobody else uses the offset.
    source = Source(os.dup(memory.fileno()), facts_of(memory.fileno(), own_offset=True))
    try:
        yield source
    finally:
        source.close()


def crc32(size: int, passes: int, end: ExitStack) -> Work:
    """Work that reads memory and writes nothing."""
    return Work("file.crc32", size, passes, sources={"data": present(size, end)})


def fill(size: int, passes: int, end: ExitStack) -> Work:
    """Work that writes present memory."""
    return Work("mem.fill", size, passes, {"value": 7}, {"data": present(size, end)})


def copy(size: int, passes: int, end: ExitStack) -> Work:
    """Work that copies present memory over present memory, each of half the size."""
    half = size // 2
    sources = {"src": present(half, end), "dst": present(half, end)}
    return Work("file.copy", half, passes, sources=sources)


def spin(units: int, ms: float, *, apart: bool = False) -> Work:
    """Work that burns CPU time in units that cannot be cut; at most APART_MAX if they are apart."""
    return Work("selftest.spin", units, arg={"ms": ms}, apart=apart)


def present(size: int, end: ExitStack) -> ktask.Memory:
    """Memory filled with data, released at the end."""
    memory = end.enter_context(ktask.memory(size))
    for start in range(0, size, len(_FILLER)):
        memory[start : start + len(_FILLER)] = _FILLER[: size - start]
    return memory
