"""Gives a lead to jobs that no client waits for and that have made no progress for a while.

Helpers run only when nobody else wants the CPU, so on a machine that is always
busy such a job would never end. While detached jobs are paused they get no lead.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from ktaskd.jobs import view
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.registry import Registry
from ktaskd.model.allowance import Level

LOOKS = 6
"""Looks in the time for which a job may make no progress."""


@dataclass(slots=True)
class _Mark:
    """The progress of a job, and since when it has not changed."""

    progress: tuple[object, ...]
    since_s: float


class Rescue:
    """Looks for starving jobs as long as there are jobs that no client waits for."""

    def __init__(
        self, dispatch: Dispatch, registry: Registry, counters: Counter[str], starvation_s: float
    ) -> None:
        """Start without jobs.

        Args:
            starvation_s: time without progress after which a job gets a lead; 0 = never.
        """
        self._dispatch, self._registry, self._counters = dispatch, registry, counters
        self._starvation_s = starvation_s
        self._loop = asyncio.get_running_loop()
        self._marks: dict[Job, _Mark] = {}
        self._progress_s: dict[int, float] = {}
        """When a chunk of any job of a uid was last done: the uid's other jobs wait behind that job."""
        self._timer: asyncio.TimerHandle | None = None

    def look_later(self) -> None:
        """Look soon, since there is a job that no client waits for."""
        if self._timer is None and self._starvation_s:
            self._timer = self._loop.call_later(self._starvation_s / LOOKS, self._look)

    def note_progress(self, uid: int) -> None:
        """Note that a chunk of a job of this uid was done."""
        if self._timer is not None:
            self._progress_s[uid] = self._loop.time()

    def forget(self) -> None:
        """Count from zero again: the time in which detached jobs are paused does not count."""
        self._marks.clear()

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        jobs = self._first_in_line()
        paused = self._dispatch.allowance.level is Level.PAUSED
        if paused:
            self.forget()
        else:
            self._marks = {job: self._mark(job) for job in jobs}
            for job, mark in self._marks.items():
                if self._loop.time() - self._since_s(job, mark) >= self._starvation_s:
                    self._rescue(job)
        if any(job.detached for job in self._registry.running):
            self.look_later()
        else:
            self._progress_s.clear()

    def _since_s(self, job: Job, mark: _Mark) -> float:
        """Return since when neither the job nor those before it in the queue have made progress."""
        in_hand = bool(job.crew.busy)
        return mark.since_s if in_hand else max(mark.since_s, self._progress_s.get(job.owner.uid, 0.0))

    def _first_in_line(self) -> list[Job]:
        """Return the jobs that hold a helper or would get the next one: the others wait behind these."""
        dispatch = self._dispatch
        jobs = dict.fromkeys((*dispatch.job_of.values(), *dispatch.demand.firsts()))
        return [job for job in jobs if not job.waited and not job.state.ended]

    def _mark(self, job: Job) -> _Mark:
        steps = (job.step is not None) + job.positions.undo_at
        progress = (view.progress(job).positions_done, job.state, steps)
        known = self._marks.get(job)
        return known if known and known.progress == progress else _Mark(progress, self._loop.time())

    def _rescue(self, job: Job) -> None:
        if not job.rescued:
            job.set_rescued(True)
            self._counters["jobs_rescued"] += 1
            job.touch()
            self._dispatch.refresh(job)
            self._dispatch.pump()
