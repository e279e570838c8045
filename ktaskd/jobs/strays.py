"""Helpers whose whole lease was taken back before they began it: nobody waits for their answers.

Such a helper finds an empty lease when it gets a CPU, touches no source, and answers. Until then it is busy
for no job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ktaskd.jobs.ports import Worker
from ktaskd.model.worker import WorkerState
from ktaskd.worker.frames import Done

ANSWER_S = 30.0
"""Time in which a stray has to answer before it is killed, since it may have been stopped."""


class Strays:
    """The helpers that have no job and are not idle.

    Args:
        leave: takes a worker off its job.
        free: notes that a worker holds nothing.
    """

    def __init__(self, leave: Callable[[Worker], object], free: Callable[[Worker], object]) -> None:
        """Start without strays. Needs the running loop."""
        self._leave, self._free = leave, free
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Worker, asyncio.TimerHandle] = {}

    def add(self, worker: Worker) -> None:
        """Take a worker off its job although it has not answered."""
        self._leave(worker)
        self._timers[worker] = self._loop.call_later(ANSWER_S, worker.kill, "did not answer")

    def forget(self, worker: Worker) -> bool:
        """Note that a worker is gone; return whether it was a stray."""
        timer = self._timers.pop(worker, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def take_done(self, worker: Worker, done: Done) -> bool:
        """Free a stray that has answered and has done nothing; return whether it was one."""
        if done.part or not self.forget(worker):
            return False
        if worker.state is WorkerState.BUSY:
            self._free(worker)
        return True

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._timers.values():
            timer.cancel()
