"""Workers that have run foreign code of a job, hold nothing of the job any more, and end with it.

A job is neither undone nor ended before all these workers are dead. The pool reports a death only
when no process that the worker started is left.
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
    """The workers that are about to end, and the jobs that wait for their ends.

    Args:
        grace_s: seconds in which a worker has to end on its own, before it is killed.
        fence_s: seconds that a job waits for the death of a killed worker.
        on_given_up: called with the job of a worker when the job stops waiting for it.
    """

    def __init__(self, grace_s: float, fence_s: float, on_given_up: Callable[[Job], None]) -> None:
        """Start without workers."""
        self._grace_s, self._fence_s = grace_s, fence_s
        self._on_given_up = on_given_up
        self._loop = asyncio.get_running_loop()
        self._leaving: dict[Worker, Job] = {}
        self._timers: dict[Worker, asyncio.TimerHandle] = {}
        self._stuck: dict[Worker, Job] = {}

    def add(self, worker: Worker, job: Job) -> None:
        """Note that a worker was asked to end after its work for a job. Repeating this does no harm."""
        if worker in self._leaving or worker in self._stuck:
            return
        self._leaving[worker] = job
        self._timers[worker] = self._loop.call_later(self._grace_s, self._kill, worker)

    def remove(self, worker: Worker) -> Job | None:
        """Note the death of a worker and all that it started; return the job that it had left, if any."""
        self._stuck.pop(worker, None)
        if (timer := self._timers.pop(worker, None)) is not None:
            timer.cancel()
        return self._leaving.pop(worker, None)

    def are_awaited(self, job: Job) -> bool:
        """Whether the job still waits for the death of workers."""
        return any(known is job for known in self._leaving.values())

    def are_stuck(self, job: Job) -> bool:
        """Whether the job has stopped waiting for workers whose processes are not known to be dead."""
        return any(known is job for known in self._stuck.values())

    def stuck_error(self, job: Job) -> JobError | None:
        """Return the error of a job whose workers' processes are not known to be dead."""
        pids = ", ".join(str(worker.pid) for worker, known in self._stuck.items() if known is job)
        if not pids:
            return None
        words = (
            f"worker {pids} was killed, and it or a process that it started is not dead after "
            f"{self._fence_s:g} s; look for processes in state D (ps -eo pid,stat,args)"
        )
        return JobError("WORKER_STUCK", words)

    def forget(self, job: Job) -> None:
        """Forget a job that has ended."""
        for worker in [worker for worker, known in self._stuck.items() if known is job]:
            del self._stuck[worker]

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._timers.values():
            timer.cancel()

    def _kill(self, worker: Worker) -> None:
        """Kill a worker that has not ended in time: its code may keep it from ending."""
        job = self._leaving[worker]
        words = (job.id, worker.id, worker.pid)
        log.warning("worker_killed job=%s worker=%d pid=%d reason=does_not_end", *words)
        worker.kill()
        self._timers[worker] = self._loop.call_later(self._fence_s, self._give_up, worker)

    def _give_up(self, worker: Worker) -> None:
        """Stop waiting for a worker. A job that is still running gets the error when it ends."""
        job = self.remove(worker)
        assert job is not None
        self._stuck[worker] = job
        self._on_given_up(job)
