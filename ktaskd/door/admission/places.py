"""Places for large requests: each account has a few come in at one time, and its others wait.

In an account the uid with the fewest places is next, and in a uid whoever came first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Line:
    """Those of one account."""

    taken: Counter[int] = field(default_factory=Counter)
    """Places that each uid has."""
    waiting: dict[asyncio.Future[bool], int] = field(default_factory=dict)
    """Requests without a place, and whose they are; the oldest comes first."""

    def next(self) -> asyncio.Future[bool] | None:
        """The request that gets the next place; None: none waits for one."""
        pending = (came for came in self.waiting if not came.done())
        return min(pending, key=lambda came: self.taken[self.waiting[came]], default=None)


class Places:
    """Places for requests that are read.

    A client sends next to nothing of a request without a place, so requests
    cannot fill the room that all need to be whole.

    Args:
        account: places of an account.
        total: of all accounts; an account that has none gets one all the same.
    """

    def __init__(self, *, account: int, total: int) -> None:
        """All are free."""
        self.taken = 0
        self._account_max = account
        self._total_max = total
        self._lines: dict[int, _Line] = {}

    def __len__(self) -> int:
        """Requests that wait for a place."""
        return sum(len(line.waiting) for line in self._lines.values())

    @asynccontextmanager
    async def place(self, account: int, uid: int, came: asyncio.Future[bool]) -> AsyncIterator[bool]:
        """Have a place, after a wait for it if need be; whether there is one.

        Args:
            came: pending; becomes True with the place. Whoever sets it to False needs none any more.
        """
        line = self._lines.setdefault(account, _Line())
        line.waiting[came] = uid
        self._give(account, line)
        try:
            yield await came
        finally:
            waited = line.waiting.pop(came, None) is not None
            if not waited:
                self._free(line, uid)
            self._give_all()

    def _free(self, line: _Line, uid: int) -> None:
        line.taken[uid] -= 1
        if not line.taken[uid]:
            del line.taken[uid]
        self.taken -= 1

    def _give_all(self) -> None:
        for account, line in list(self._lines.items()):
            self._give(account, line)

    def _give(self, account: int, line: _Line) -> None:
        """Give an account what it may have now."""
        while self._has_place(line) and (came := line.next()) is not None:
            line.taken[line.waiting.pop(came)] += 1
            self.taken += 1
            came.set_result(True)
        if not (line.taken or line.waiting):
            self._lines.pop(account, None)

    def _has_place(self, line: _Line) -> bool:
        if not line.taken:
            return True
        return line.taken.total() < self._account_max and self.taken < self._total_max
