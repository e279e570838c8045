"""Cutting chunks while workers pull them. No I/O, no clock.

Invariant: every position of the plan is in exactly one of: not yet cut, given
back, or handed out. The tests check it under any order of take and give_back.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.planner.plan import Plan
from ktaskd.planner.threads import round_up

ANY_NODE = NUMA_NO_NODE

_Group = tuple[int, bool]
"""Node of a share, and whether only that node's helpers may take it."""

_ANYWHERE: _Group = (ANY_NODE, False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The positions that one worker is given at once: [start, end) of share `share_i`."""

    start: int
    end: int
    share_i: int
    nid: int


class Cursor:
    """The positions of one job that nobody holds yet."""

    def __init__(self, plan: Plan) -> None:
        """Start with everything in."""
        self._plan = plan
        self._shares = plan.shares
        self._next = [share.start for share in plan.shares]
        self._back: list[list[tuple[int, int]]] = [[] for _ in plan.shares]
        self._is_open = [True] * len(plan.shares)
        # Shares that have something left, by who may take them: a job may have
        # thousands, of a handful of nodes.
        self._open: dict[_Group, list[int]] = {}
        self._left_of: dict[_Group, int] = {}
        for i, share in enumerate(plan.shares):
            group = (share.nid, share.only)
            self._open.setdefault(group, []).append(i)  # ascending, so a heap
            self._left_of[group] = self._left_of.get(group, 0) + share.end - share.start
        self.left = plan.total
        self._closed = False

    def close(self) -> None:
        """Nothing more is taken out or in."""
        self._closed = True
        self.left = 0
        self._open, self._left_of = {}, {}

    def take(self, size: int, nid: int, *, lead: bool, has_free: Callable[[int], bool]) -> Chunk | None:
        """Cut a chunk of about `size` positions for a worker of node `nid`.

        Args:
            lead: the worker stands for the caller and may take any share.
            has_free: whether a node has a helper that could take its own.
        Returns:
            None if there is nothing that this worker may take now.
        """
        share_i = self._choose(nid, lead, has_free)
        if share_i is None:
            return None
        start, limit = self._lowest(share_i)
        end = self._cut(start, max(size, 1), limit)
        self._consume(share_i, start, end, limit)
        return Chunk(start, end, share_i, self._shares[share_i].nid)

    def give_back(self, chunk: Chunk, start: int, end: int) -> None:
        """Take [start, end) of a chunk that was handed out back in."""
        if start >= end or self._closed:
            return
        group = self._group(chunk.share_i)
        if not self._is_open[chunk.share_i]:
            self._is_open[chunk.share_i] = True
            heappush(self._open[group], chunk.share_i)
        insort(self._back[chunk.share_i], (start, end))
        self.left += end - start
        self._left_of[group] += end - start

    def may_take(self, nid: int, *, lead: bool, has_free: Callable[[int], bool]) -> bool:
        """Whether `take` would give this worker something."""
        return self._choose(nid, lead, has_free) is not None

    def _choose(self, nid: int, lead: bool, has_free: Callable[[int], bool]) -> int | None:
        for group in ((nid, True), (nid, False), _ANYWHERE):
            if self._open.get(group):
                return self._open[group][0]
        helpable = [group for group, open_ in self._open.items() if open_]
        mine = [group for group in helpable if not (group[1] or has_free(group[0]))]
        if not mine and lead:
            # The lead is the caller's own thread: better the wrong node than idle.
            mine = helpable
        fullest = max(mine, key=self._left_of.__getitem__, default=None)
        return self._open[fullest][0] if fullest is not None else None

    def _group(self, share_i: int) -> _Group:
        share = self._shares[share_i]
        return share.nid, share.only

    def _lowest(self, share_i: int) -> tuple[int, int]:
        if self._back[share_i]:
            return self._back[share_i][0]
        return self._next[share_i], self._shares[share_i].end

    def _cut(self, start: int, size: int, limit: int) -> int:
        """The end of a chunk from `start`: aligned, on a record, within limit."""
        end = round_up(start + size, self._plan.align) if start + size < limit else limit
        if self._plan.boundary is not None and end < limit:
            end = max(self._plan.boundary(end), start + 1)
        # A rest below min_chunk is not worth a worker of its own.
        return limit if limit - end < self._plan.min_chunk else min(end, limit)

    def _consume(self, share_i: int, start: int, end: int, limit: int) -> None:
        group = self._group(share_i)
        self.left -= end - start
        self._left_of[group] -= end - start
        if self._back[share_i]:
            self._back[share_i][:1] = [(end, limit)] if end < limit else []
        else:
            self._next[share_i] = end
        if not self._back[share_i] and self._next[share_i] >= self._shares[share_i].end:
            self._is_open[share_i] = False
            heappop(self._open[group])  # chunks are cut from the first only
