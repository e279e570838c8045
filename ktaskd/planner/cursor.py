"""Cuts chunks while workers pull them. No I/O, no clock.

Invariant: every position of the plan is in exactly one of: not yet cut, given back, or handed out.
The tests check it under any order of take and give_back.
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
"""A node, and whether only that node's helpers may take the part."""

_ANYWHERE: _Group = (ANY_NODE, False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The positions that one worker gets at once: [start, end) of `parts[part_i]`."""

    start: int
    end: int
    part_i: int
    nid: int

    def until(self, end: int) -> Chunk:
        """The same up to `end` only."""
        return Chunk(self.start, end, self.part_i, self.nid)

    def since(self, start: int) -> Chunk:
        """The same from `start` on only."""
        return Chunk(start, self.end, self.part_i, self.nid)


class Cursor:
    """The positions of one job that nobody holds yet."""

    def __init__(self, plan: Plan) -> None:
        """Begin with all positions of the plan."""
        self._plan = plan
        self._parts = plan.parts
        self._next = [part.start for part in plan.parts]
        self._back: list[list[tuple[int, int]]] = [[] for _ in plan.parts]
        self._is_open = [True] * len(plan.parts)
        # Parts with positions left, by the workers that may take them: a job may have
        # thousands of parts, but only on a handful of nodes.
        self._open: dict[_Group, list[int]] = {}
        self._left_of: dict[_Group, int] = {}
        for i, part in enumerate(plan.parts):
            group = (part.nid, part.only)
            self._open.setdefault(group, []).append(i)  # ascending, so a heap
            self._left_of[group] = self._left_of.get(group, 0) + part.end - part.start
        self.left = plan.total
        self._closed = False

    def close(self) -> None:
        """Hand out nothing more, and ignore what is given back."""
        self._closed = True
        self.left = 0
        self._open, self._left_of = {}, {}

    def take(self, size: int, nid: int, *, lead: bool, has_free: Callable[[int], bool]) -> Chunk | None:
        """Cut a chunk of about `size` positions for a worker of node `nid`.

        Args:
            lead: the worker stands in for the caller and may take any part.
            has_free: whether a node has a helper that could take the node's own parts.
        Returns:
            None if there is nothing that this worker may take now.
        """
        part_i = self._choose(nid, lead, has_free)
        if part_i is None:
            return None
        start, limit = self._lowest(part_i)
        end = self._cut(start, max(size, 1), limit)
        self._consume(part_i, start, end, limit)
        return Chunk(start, end, part_i, self._parts[part_i].nid)

    def give_back(self, chunk: Chunk, start: int, end: int) -> None:
        """Return [start, end) of a chunk that was handed out."""
        if start >= end or self._closed:
            return
        group = self._group(chunk.part_i)
        if not self._is_open[chunk.part_i]:
            self._is_open[chunk.part_i] = True
            heappush(self._open[group], chunk.part_i)
        insort(self._back[chunk.part_i], (start, end))
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
            # The lead stands in for the caller's own thread: the wrong node is better than idling.
            mine = helpable
        fullest = max(mine, key=self._left_of.__getitem__, default=None)
        return self._open[fullest][0] if fullest is not None else None

    def _group(self, part_i: int) -> _Group:
        part = self._parts[part_i]
        return part.nid, part.only

    def _lowest(self, part_i: int) -> tuple[int, int]:
        if self._back[part_i]:
            return self._back[part_i][0]
        return self._next[part_i], self._parts[part_i].end

    def _cut(self, start: int, size: int, limit: int) -> int:
        """End of a chunk from `start`: aligned, on a record boundary, and within `limit`."""
        end = round_up(start + size, self._plan.align) if start + size < limit else limit
        if self._plan.boundary is not None and end < limit:
            end = max(self._plan.boundary(end), start + 1)
        # A remainder below min_chunk is not worth a chunk of its own.
        return limit if limit - end < self._plan.min_chunk else min(end, limit)

    def _consume(self, part_i: int, start: int, end: int, limit: int) -> None:
        group = self._group(part_i)
        self.left -= end - start
        self._left_of[group] -= end - start
        if self._back[part_i]:
            self._back[part_i][:1] = [(end, limit)] if end < limit else []
        else:
            self._next[part_i] = end
        if not self._back[part_i] and self._next[part_i] >= self._parts[part_i].end:
            self._is_open[part_i] = False
            heappop(self._open[group])  # chunks are cut only from the first part
