"""Which sources of a worker stay mapped after a job, and for how long.

To map 1 GiB, fault its pages in and unmap it again takes as much CPU time as a checksum of it. So a
mapping lives as long as its source, which lives as long as the client's handle. Meanwhile it costs
page tables, 2 MiB for each GiB that was touched. Mappings that no job uses end when there are too
many, when the machine runs short of memory, and when the worker has had nothing to do for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Protocol

from ktaskd.host.memory.freemem import read_free
from ktaskd.host.memory.pagetables import read_page_tables
from ktaskd.host.root import HostRoot

COUNT_MAX = 256
TABLES_MAX = 16 << 20
"""Most mappings that one worker keeps, and most bytes of page tables: those of 8 GiB."""

SPAN_FREE = TABLES_MAX * 512
"""Mappings of this many bytes together cannot exceed TABLES_MAX: an entry of 8 bytes for a page of 4 KiB."""

IDLE_S = 10.0
"""A worker that has received nothing for this long keeps no mapping."""

LOOK_S = 1.0
"""Shortest time between two looks at the machine's memory."""

SHORT_PARTS = 16
"""The machine is short of memory when less than 1/SHORT_PARTS of it is available."""


class Mappable(Protocol):
    """A source, as this module sees it."""

    @property
    def mapped_bytes(self) -> int:
        """Bytes of its mapping; 0 = it has none."""

    @property
    def outlives_jobs(self) -> bool:
        """Whether its mapping may stay when its job has ended."""

    def unmap(self) -> None:
        """Drop the mapping, which is made again when it is needed."""


class Mapped:
    """The sources of a worker that may be mapped, by their last use.

    Args:
        clock: monotonic seconds.
        tables: returns the bytes of this process's page tables.
    """

    def __init__(
        self,
        root: HostRoot,
        clock: Callable[[], float] = time.monotonic,
        tables: Callable[[], int] = read_page_tables,
    ) -> None:
        """Begin without sources."""
        self._root = root
        self._clock = clock
        self._tables = tables
        self._by_use: dict[Mappable, None] = {}
        self._look_s = 0.0

    def __bool__(self) -> bool:
        """Whether any source may be mapped now."""
        return bool(self._by_use)

    def use(self, source: Mappable) -> None:
        """Note that a job begins to use a source."""
        self._by_use.pop(source, None)
        self._by_use[source] = None

    def forget(self, source: Mappable) -> None:
        """Note that a source is closed; an unknown one is ignored."""
        self._by_use.pop(source, None)

    def trim(self, busy: Collection[object]) -> None:
        """After a job: unmap what no other job uses and what may not stay, the longest unused first.

        Args:
            busy: sources of other jobs, which stay mapped.
        """
        for source in [one for one in self._by_use if one not in busy and not self._may_stay(one)]:
            self._drop(source)
        idle = [source for source in self._by_use if source not in busy]
        surplus = len(idle) if idle and self._is_short() else len(idle) - COUNT_MAX
        for i, source in enumerate(idle):
            if i >= surplus and self._fits():
                return
            self._drop(source)

    def rest(self, busy: Collection[object]) -> None:
        """Unmap all sources, since the worker has nothing to do; remember those that jobs still use."""
        for source in list(self._by_use):
            source.unmap()
            if source not in busy:
                del self._by_use[source]

    @staticmethod
    def _may_stay(source: Mappable) -> bool:
        return source.mapped_bytes > 0 and source.outlives_jobs

    def _fits(self) -> bool:
        span = sum(source.mapped_bytes for source in self._by_use)
        return span <= SPAN_FREE or self._tables() <= TABLES_MAX

    def _is_short(self) -> bool:
        """Whether the machine is short of memory; looks once in a while."""
        now_s = self._clock()
        if now_s < self._look_s:
            return False
        self._look_s = now_s + LOOK_S
        memory = read_free(self._root)
        return memory is not None and memory.available < memory.total // SHORT_PARTS

    def _drop(self, source: Mappable) -> None:
        source.unmap()
        del self._by_use[source]
