"""Workers that have run a job's foreign code, hold nothing any more, and end with it.

A job has no final state, and is not undone, before these are seen dead, which the pool reports only
when nothing is left of what they have started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.model.job import JobError

log = logging.getLogger(__name__)


class Departures:
    """The workers that are about to end, and the jobs that wait for that.

    Args:
        grace_s: seconds that a worker has to end by itself, before it is killed.
        fence_s: seconds that a killed worker has to be seen dead, before its job waits no longer.
        on_given_up: called with the job of a worker that is not waited for any longer.
    """

    def __init__(self, grace_s: float, fence_s: float, on_given_up: Callable[[Job], None]) -> None:
        """No worker is about to end."""
        self._grace_s, self._fence_s = grace_s, fence_s
        self._on_given_up = on_given_up
        self._loop = asyncio.get_running_loop()
        self._leaving: dict[Worker, Job] = {}
        self._timers: dict[Worker, asyncio.TimerHandle] = {}
        self._stuck: dict[Worker, Job] = {}

    def add(self, worker: Worker, job: Job) -> None:
        """A worker was told to end after what it has done for a job; once more does no harm."""
        if worker in self._leaving or worker in self._stuck:
            return
        self._leaving[worker] = job
        self._timers[worker] = self._loop.call_later(self._grace_s, self._kill, worker)

    def remove(self, worker: Worker) -> Job | None:
        """A worker is dead, and nothing is left of what it started; the job that it had left, if any."""
        self._stuck.pop(worker, None)
        if (timer := self._timers.pop(worker, None)) is not None:
            timer.cancel()
        return self._leaving.pop(worker, None)

    def are_awaited(self, job: Job) -> bool:
        """Whether workers of the job are still to be seen dead."""
        return any(known is job for known in self._leaving.values())

    def are_stuck(self, job: Job) -> bool:
        """Whether what workers of the job have started is not seen dead, and not waited for any longer."""
        return any(known is job for known in self._stuck.values())

    def stuck_error(self, job: Job) -> JobError | None:
        """Why a job cannot end well: what its workers have started is not dead."""
        pids = ", ".join(str(worker.pid) for worker, known in self._stuck.items() if known is job)
        if not pids:
            return None
        words = (
            f"worker {pids} was killed, and it or a process that it started is not dead after "
            f"{self._fence_s:g} s; look for processes in state D (ps -eo pid,stat,args)"
        )
        return JobError("WORKER_STUCK", words)

    def forget(self, job: Job) -> None:
        """The job has ended."""
        for worker in [worker for worker, known in self._stuck.items() if known is job]:
            del self._stuck[worker]

    def close(self) -> None:
        """Forget the timers."""
        for timer in self._timers.values():
            timer.cancel()

    def _kill(self, worker: Worker) -> None:
        """Kill a worker that has not ended in time: its code may have stopped it."""
        job = self._leaving[worker]
        words = (job.id, worker.id, worker.pid)
        log.warning("worker_killed job=%s worker=%d pid=%d reason=does_not_end", *words)
        worker.kill()
        self._timers[worker] = self._loop.call_later(self._fence_s, self._give_up, worker)

    def _give_up(self, worker: Worker) -> None:
        """Stop waiting for a worker; a job that still runs gets the error when it ends."""
        job = self.remove(worker)
        assert job is not None
        self._stuck[worker] = job
        self._on_given_up(job)
