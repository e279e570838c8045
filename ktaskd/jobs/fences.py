"""Limits the time in which workers have to give back the chunks of a job that stops.

First the worker's chunks are recalled. If it has not answered after the grace time, it is killed. If it
is not dead after the fence time either, it is given up: it may still write, so its spans are dirty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ktaskd.jobs.course import give_up_undo, lose_undo
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.patience import Patience
from ktaskd.jobs.ports import Worker
from ktaskd.model.job import JobError, JobState
from ktaskd.model.worker import WorkerState

log = logging.getLogger(__name__)

_Sight = tuple[Worker, int, int, float]
"""A worker in a step, with its seq, its quanta and its CPU seconds so far."""


class Fences:
    """Waits for the workers of stopping jobs, kills those that do not answer, gives up those that do not die.

    Args:
        patience: `grace_s` is also the time in which a worker has to make progress in a step.
        settle: called with a job whose worker was given up.
    """

    def __init__(self, dispatch: Dispatch, patience: Patience, settle: Callable[[Job], None]) -> None:
        """Start without workers. Needs the running loop."""
        self._dispatch = dispatch
        self._grace_s, self._fence_s = patience.grace_s, patience.fence_s
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._watched: set[Job] = set()

    # -- chunks ---------------------------------------------------------------

    def begin_grace(self, job: Job) -> None:
        """Start the grace time, now that the chunks of a stopping job were recalled."""
        self._loop.call_later(self._grace_s, self._on_grace_over, job)

    def _on_grace_over(self, job: Job) -> None:
        """Kill workers that ignored the recall."""
        busy = job.crew.busy if job.state is JobState.DRAINING else set()
        for worker in busy:
            words = (job.id, worker.id, worker.pid)
            log.warning("worker_killed job=%s worker=%d pid=%d reason=grace_over", *words)
            worker.kill()
        if busy:
            self._loop.call_later(self._fence_s, self._on_fence_over, job)

    def _on_fence_over(self, job: Job) -> None:
        if job.state is JobState.DRAINING:
            self._give_up_on(job, job.crew.busy)
            self._settle(job)

    # -- steps ----------------------------------------------------------------

    def watch_steps(self, job: Job) -> None:
        """From now on kill a worker that stands still in a step, since steps cannot be cancelled."""
        if job not in self._watched and not job.state.ended:
            self._watched.add(job)
            self._loop.call_later(self._grace_s, self._look_at_step, job, None)

    def _look_at_step(self, job: Job, seen: _Sight | None) -> None:
        """Kill the worker if it has made no progress since `seen`, unless it is runnable (starved)."""
        if job.state.ended:
            self._watched.discard(job)
            return
        kernel, worker, delay_s = self._dispatch.kernel, job.crew.step_worker, self._grace_s
        now = (worker, job.crew.step_seq, worker.beats, kernel.cpu_seconds(worker.pid)) if worker else None
        if worker is not None and now == seen and kernel.state(worker.pid) != "R":
            if worker.state is WorkerState.STOPPING:
                self._watched.discard(job)
                self._give_up_on_step(job, worker)
                return
            words = (job.id, worker.id, worker.pid)
            log.warning("worker_killed job=%s worker=%d pid=%d reason=stands_still", *words)
            worker.kill(f"stood still for {self._grace_s:g} s")
            worker.state, delay_s = WorkerState.STOPPING, self._fence_s
        self._loop.call_later(delay_s, self._look_at_step, job, now)

    def _give_up_on_step(self, job: Job, worker: Worker) -> None:
        """Give up the remainder of the undo, since the worker was killed and is not dead."""
        step = job.step
        self._give_up_on(job, {worker})
        if step is not None:
            lose_undo(job, step, 0)
        give_up_undo(job)
        job.set_step(None)
        self._settle(job)

    def _give_up_on(self, job: Job, workers: set[Worker]) -> None:
        """Mark the spans dirty of workers that were killed and are not dead.

        The workers are never used again and keep their descriptors of sources; the job closes its own.
        """
        for worker in workers:
            chunks = [held.chunk for held in job.crew.held.get(worker, {}).values()]
            for chunk in chunks:
                job.positions.lose(chunk)
            held = [(chunk.start, chunk.end) for chunk in chunks]
            if worker is job.crew.step_worker:
                held.append(job.checked.span)
            if job.checked.declaration.writes:
                job.positions.mark_dirty(held)
            spans = ", ".join(f"[{start}, {end})" for start, end in held)
            self._dispatch.remove(worker)
            worker.state = WorkerState.STOPPING
            words = f"worker {worker.pid} was killed and is not dead after {self._fence_s:g} s"
            job.set_stuck(JobError("WORKER_STUCK", f"{words}; it holds {spans}"))
