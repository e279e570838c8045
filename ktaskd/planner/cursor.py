"""Cutting chunks while workers pull them. No I/O, no clock.

Invariant: every position of the plan is in exactly one of: not yet cut, given
back, or handed out. The tests check it under any order of take and give_back.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass

from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.planner.plan import Plan, Share
from ktaskd.planner.threads import round_up

ANY_NODE = NUMA_NO_NODE


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one worker is given at one time: [start, end) of share `share_i`."""

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
        self._open = list(range(len(plan.shares)))
        self.left = plan.total

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
        if start >= end:
            return
        if chunk.share_i not in self._open:
            insort(self._open, chunk.share_i)
        insort(self._back[chunk.share_i], (start, end))
        self.left += end - start

    def may_take(self, nid: int, *, lead: bool, has_free: Callable[[int], bool]) -> bool:
        """Whether `take` would give this worker something."""
        return self._choose(nid, lead, has_free) is not None

    def _choose(self, nid: int, lead: bool, has_free: Callable[[int], bool]) -> int | None:
        if not self._open:
            return None
        if len(self._open) == 1 and self._shares[self._open[0]].nid in (ANY_NODE, nid):
            return self._open[0]  # the usual case, without a search
        own = self._first(lambda share: share.nid == nid)
        if own is None:
            own = self._first(lambda share: share.nid == ANY_NODE)
        if own is None:
            own = self._help(lambda share: not (share.only or has_free(share.nid)))
        if own is None and lead:
            # The lead is the caller's own thread: better the wrong node than idle.
            own = self._help(lambda _: True)
        return own

    def _first(self, wanted: Callable[[Share], bool]) -> int | None:
        return next((i for i in self._open if wanted(self._shares[i])), None)

    def _help(self, wanted: Callable[[Share], bool]) -> int | None:
        helpable = [i for i in self._open if wanted(self._shares[i])]
        return max(helpable, key=self._left_of, default=None)

    def _left_of(self, share_i: int) -> int:
        given_back = sum(end - start for start, end in self._back[share_i])
        return self._shares[share_i].end - self._next[share_i] + given_back

    def _lowest(self, share_i: int) -> tuple[int, int]:
        if self._back[share_i]:
            return self._back[share_i][0]
        return self._next[share_i], self._shares[share_i].end

    def _cut(self, start: int, size: int, limit: int) -> int:
        """Where a chunk from `start` ends: aligned, on a record, within limit."""
        end = round_up(start + size, self._plan.align) if start + size < limit else limit
        if self._plan.boundary is not None and end < limit:
            end = max(self._plan.boundary(end), start + 1)
        # A rest below min_chunk is not worth a worker of its own.
        return limit if limit - end < self._plan.min_chunk else min(end, limit)

    def _consume(self, share_i: int, start: int, end: int, limit: int) -> None:
        self.left -= end - start
        if self._back[share_i]:
            self._back[share_i][:1] = [(end, limit)] if end < limit else []
        else:
            self._next[share_i] = end
        if not self._back[share_i] and self._next[share_i] >= self._shares[share_i].end:
            self._open.remove(share_i)
