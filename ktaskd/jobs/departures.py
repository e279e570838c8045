"""Workers that have run a job's foreign code, hold nothing any more, and end with it.

A job has no final state, and is not undone, before these are seen dead, which the pool reports only
when nothing is left of what they have started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import Event
from ktaskd.model.job import JobError
from ktaskd.pool.link import Worker

log = logging.getLogger(__name__)


class Departures:
    """Who is about to end, and which jobs wait for that.

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
        self._held_back: dict[Job, Event] = {}

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

    def hold_back(self, job: Job, event: Event) -> bool:
        """Keep the end of a job until its workers are gone; False where none is left."""
        if self.are_awaited(job):
            self._held_back[job] = event
            return True
        self._held_back.pop(job, None)
        return False

    def is_held_back(self, job: Job) -> bool:
        """Whether all of a job is done but that its workers are gone."""
        return job in self._held_back

    def take_held_back(self, job: Job) -> Event | None:
        """How a job ends whose workers are gone now; None if it does not end, or not yet."""
        return None if self.are_awaited(job) else self._held_back.pop(job, None)

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
        self._held_back.pop(job, None)
        for worker in [worker for worker, known in self._stuck.items() if known is job]:
            del self._stuck[worker]

    def close(self) -> None:
        """Forget the timers."""
        for timer in self._timers.values():
            timer.cancel()

    def _kill(self, worker: Worker) -> None:
        """It was told to end, and has not: its code has stopped it, say."""
        job = self._leaving[worker]
        words = (job.id, worker.id, worker.pid)
        log.warning("worker_killed job=%s worker=%d pid=%d reason=does_not_end", *words)
        worker.kill()
        self._timers[worker] = self._loop.call_later(self._fence_s, self._give_up, worker)

    def _give_up(self, worker: Worker) -> None:
        """Wait no longer; a job that still runs hears of it when it ends."""
        job = self.remove(worker)
        assert job is not None
        self._stuck[worker] = job
        self._on_given_up(job)
