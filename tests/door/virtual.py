"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    """Never waits; reports how long it would have waited."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.waited_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing is ready."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.waited_s

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for threads without the limit of newer versions of Python, which is over at once here."""
        await super().shutdown_default_executor()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end on such a loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test)
