"""Pauses of idle helpers. Times are of the event loop's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ktaskd.jobs.ports import Worker

DUTY_PAUSE_MAX_S = 30.0
"""Longest pause of all helpers when they may work only a part of the time."""


class Cooldowns:
    """Pauses one helper that was starved, or all helpers when they may work only a part of the time."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Pause no helper yet; `wake` is called each time that a pause ends."""
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._until_s: dict[Worker, float] = {}
        self._all_until_s = 0.0

    def pause(self, worker: Worker, until_s: float) -> None:
        """Give a starved helper no work before `until_s`."""
        self._until_s[worker] = max(until_s, self._until_s.get(worker, 0.0))
        self._loop.call_at(until_s, self._wake)

    def keep_duty(self, cpu_s: float, duty: float) -> None:
        """Pause all helpers long enough to keep the duty cycle, after one has used `cpu_s` seconds.

        Args:
            duty: the part of the time that helpers may work; 1 = all of it, without a pause.
        """
        pause_s = min(cpu_s * (1 / duty - 1), DUTY_PAUSE_MAX_S)
        if pause_s > 0:
            self._all_until_s = self._loop.time() + pause_s
            self._loop.call_at(self._all_until_s, self._wake)

    def end_duty_pause(self) -> None:
        """End the pause of all helpers, which may now work more of the time."""
        self._all_until_s = 0.0

    def forget(self, worker: Worker) -> None:
        """Forget a helper that has ended."""
        self._until_s.pop(worker, None)

    @property
    def pauses_all(self) -> bool:
        """Whether no helper may begin anything now."""
        return self._loop.time() < self._all_until_s

    def ready(self, workers: Iterable[Worker]) -> list[Worker]:
        """Return the workers that are not paused."""
        if self.pauses_all:
            return []
        if self._until_s:
            now = self._loop.time()
            self._until_s = {worker: at_s for worker, at_s in self._until_s.items() if at_s > now}
        return [worker for worker in workers if worker not in self._until_s]
