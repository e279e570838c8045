"""A loop that never waits: when nothing is to be done its clock is moved to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _Leap(selectors.SelectSelector):
    """Time goes on at once to the next timer."""

    leap: Callable[[float], None]

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if timeout and not events:
            self.leap(timeout)
        return events


class LeapLoop(asyncio.SelectorEventLoop):
    """A loop that never waits."""

    def __init__(self) -> None:
        selector = _Leap()
        super().__init__(selector)
        self.now_s = 1000.0
        selector.leap = self._leap

    def _leap(self, seconds: float) -> None:
        self.now_s += seconds

    def time(self) -> float:
        return self.now_s


def pending(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    """Timers that are set."""
    return [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
