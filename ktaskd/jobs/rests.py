"""Helpers that are given nothing for a while although they are free. Times are the loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ktaskd.pool.link import Worker

BREATH_MAX_S = 30.0
"""Longest time without a helper where one may work a share of the time."""


class Rests:
    """Who rests: one helper that was starved, or all where they may work a share of the time."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Nobody rests; `wake` is called when somebody may work again."""
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._until_s: dict[Worker, float] = {}
        self._all_until_s = 0.0

    def rest(self, worker: Worker, until_s: float) -> None:
        """A helper that was starved is given nothing before `until_s`."""
        self._until_s[worker] = max(until_s, self._until_s.get(worker, 0.0))
        self._loop.call_at(until_s, self._wake)

    def breathe(self, cpu_s: float, share: float) -> None:
        """One has worked for so long: where that may be a share of the time, none does for a while."""
        pause_s = min(cpu_s * (1 / share - 1), BREATH_MAX_S)
        if pause_s > 0:
            self._all_until_s = self._loop.time() + pause_s
            self._loop.call_at(self._all_until_s, self._wake)

    def end_breath(self) -> None:
        """They may work more than before."""
        self._all_until_s = 0.0

    def forget(self, worker: Worker) -> None:
        """It is gone."""
        self._until_s.pop(worker, None)

    @property
    def of_all(self) -> bool:
        """Whether no helper may begin anything now."""
        return self._loop.time() < self._all_until_s

    def awake(self, workers: Iterable[Worker]) -> list[Worker]:
        """Those of them that may be given something."""
        if self.of_all:
            return []
        if self._until_s:
            now = self._loop.time()
            self._until_s = {worker: at_s for worker, at_s in self._until_s.items() if at_s > now}
        return [worker for worker in workers if worker not in self._until_s]
