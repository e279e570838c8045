"""Time limits that count only time in which the loop runs.

A daemon that was stopped, or had no CPU, finds all its timers due at once, and
has not yet read what its clients sent meanwhile. Such a pause must not end a
client's connection. So each limit is divided into parts, and each part begins only when
the one before has ended, however late that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

PARTS = 4
"""A pause of the daemon counts for at most one of this many parts of a limit."""


class Alarm:
    """Calls `ring` once, after `seconds` in which the loop runs; `cancel` prevents that."""

    __slots__ = ("_left", "_part_s", "_ring", "_timer")

    def __init__(self, seconds: float, ring: Callable[[], object]) -> None:
        """Start waiting, in the running loop."""
        self._part_s = seconds / PARTS
        self._left = PARTS
        self._ring = ring
        self._timer = asyncio.get_running_loop().call_later(self._part_s, self._on_part)

    def _on_part(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = asyncio.get_running_loop().call_later(self._part_s, self._on_part)
        else:
            self._ring()

    def cancel(self) -> None:
        """Do not ring. After the ring this does nothing."""
        self._timer.cancel()


class Patience:
    """An asynchronous context: raises TimeoutError if its block takes longer than `seconds`; 0 = no limit."""

    __slots__ = ("_alarm", "_seconds", "_timeout")

    def __init__(self, seconds: float) -> None:
        """Nothing is timed yet."""
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._alarm: Alarm | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        if self._seconds:
            self._alarm = Alarm(self._seconds, self._on_alarm)

    def _on_alarm(self) -> None:
        self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        await self._timeout.__aexit__(kind, error, trace)
