"""Who may have a large request come in: a few of each account at one time, the others wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Line:
    """Those of one account. First come, first served."""

    taken: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


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
    async def place(self, account: int) -> AsyncIterator[None]:
        """Have a place, after a wait for it if need be."""
        line = self._lines.setdefault(account, _Line())
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(came)
        self._give(account, line)
        try:
            await came
        except BaseException:
            if came in line.waiting:
                line.waiting.remove(came)
            elif not came.cancelled():
                self._free(line)
            self._give_all()
            raise
        try:
            yield
        finally:
            self._free(line)
            self._give_all()

    def _free(self, line: _Line) -> None:
        line.taken -= 1
        self.taken -= 1

    def _give_all(self) -> None:
        for account, line in list(self._lines.items()):
            self._give(account, line)

    def _give(self, account: int, line: _Line) -> None:
        """Give an account what it may have now."""
        while line.waiting and self._has_place(line):
            came = line.waiting.popleft()
            if not came.done():
                line.taken += 1
                self.taken += 1
                came.set_result(None)
        if not (line.taken or line.waiting):
            self._lines.pop(account, None)

    def _has_place(self, line: _Line) -> bool:
        if not line.taken:
            return True
        return line.taken < self._account_max and self.taken < self._total_max
