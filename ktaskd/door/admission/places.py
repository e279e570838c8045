"""Places for large requests: a few of each account come in at the same time, and its others wait.

In an account the uid with the fewest places is next, and within a uid its oldest request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Queue:
    """The requests of one account."""

    taken: Counter[int] = field(default_factory=Counter)
    """Places that each uid has."""
    waiting: dict[asyncio.Future[bool], int] = field(default_factory=dict)
    """Requests without a place, with their uids; the oldest comes first."""

    def next(self) -> asyncio.Future[bool] | None:
        """Return the request that gets the next place; None if none waits."""
        pending = (came for came in self.waiting if not came.done())
        return min(pending, key=lambda came: self.taken[self.waiting[came]], default=None)


class Places:
    """Places for requests that are being read.

    A client sends next to nothing of a request without a place. So requests that come in together
    cannot use up the room that each of them needs to be completed.

    Args:
        account: places of an account.
        total: places of all accounts; an account that has none gets one all the same.
    """

    def __init__(self, *, account: int, total: int) -> None:
        """All places are free."""
        self.taken = 0
        self._account_max = account
        self._total_max = total
        self._queues: dict[int, _Queue] = {}

    def __len__(self) -> int:
        """Return the number of requests that wait for a place."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @asynccontextmanager
    async def place(self, account: int, uid: int, came: asyncio.Future[bool]) -> AsyncIterator[bool]:
        """Wait for a place, and hold it for the time of the block; gives whether there is one.

        Args:
            came: pending; becomes True with the place. The caller may set it to False when it
                needs no place any more.
        """
        queue = self._queues.setdefault(account, _Queue())
        queue.waiting[came] = uid
        self._give(account, queue)
        try:
            yield await came
        finally:
            waited = queue.waiting.pop(came, None) is not None
            if not waited:
                self._free(queue, uid)
            self._give_all()

    def _free(self, queue: _Queue, uid: int) -> None:
        queue.taken[uid] -= 1
        if not queue.taken[uid]:
            del queue.taken[uid]
        self.taken -= 1

    def _give_all(self) -> None:
        for account, queue in list(self._queues.items()):
            self._give(account, queue)

    def _give(self, account: int, queue: _Queue) -> None:
        """Give an account the places that it may have now."""
        while self._has_place(queue) and (came := queue.next()) is not None:
            queue.taken[queue.waiting.pop(came)] += 1
            self.taken += 1
            came.set_result(True)
        if not (queue.taken or queue.waiting):
            self._queues.pop(account, None)

    def _has_place(self, queue: _Queue) -> bool:
        if not queue.taken:
            return True
        return queue.taken.total() < self._account_max and self.taken < self._total_max
