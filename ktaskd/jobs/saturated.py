"""Takes workers off jobs that they make no faster. `planner.saturation` decides when."""

from __future__ import annotations

import asyncio

from ktaskd.jobs import view
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.planner.saturation import (
    FIRST_READING_S,
    FIRST_WRITING_S,
    MEASURE_S,
    Look,
    Order,
    Saturation,
)

LOOK_S = MEASURE_S / 2
"""Time between two looks while a job has several workers and a trial is near or under way."""


class SaturationWatch:
    """Looks at jobs with leases that have, or had, several workers."""

    def __init__(self, dispatch: Dispatch) -> None:
        """Start without jobs. Needs the running loop."""
        self._dispatch = dispatch
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[Job, Saturation] = {}
        self._timer: asyncio.TimerHandle | None = None

    def on_join(self, job: Job) -> None:
        """Note that a worker has joined a job, which knows it already."""
        if job.saturation is None:
            if not job.has_leases or len(job.crew.helpers) + (job.crew.lead is not None) < 2:
                return
            writes = job.checked.declaration.writes
            job.saturation = Saturation(FIRST_WRITING_S if writes else FIRST_READING_S)
        self._jobs[job] = job.saturation
        self._look_within(LOOK_S)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_within(self, delay_s: float) -> None:
        at_s = self._loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        self._timer = None
        # A job without workers comes back with the next worker that joins it.
        self._jobs = {job: known for job, known in self._jobs.items() if job.goes_on and job.crew.busy}
        for job, known in tuple(self._jobs.items()):
            self._look_at(job, known)
        if self._jobs:
            now_s = self._loop.time()
            self._look_within(max(min(known.wait_s(now_s) for known in self._jobs.values()), LOOK_S))

    def _look_at(self, job: Job, known: Saturation) -> None:
        now_s, workers = self._loop.time(), sum(map(bool, job.crew.held.values()))
        if self._can_measure(job):
            order = known.look(Look(now_s, view.progress(job).positions_done, workers))
        else:
            order = known.pause(now_s)
        if order is Order.TAKE_OFF:
            self._take_off(job)
        elif order is Order.GIVE_BACK:
            self._dispatch.want(job)
            self._dispatch.pump()

    def _can_measure(self, job: Job) -> bool:
        """Whether the job's rate depends only on its workers: no other job, no other process takes CPUs."""
        records = self._dispatch.roster
        return self._dispatch.demand.is_alone(job) and not any(
            records[helper].starved for helper in job.crew.helpers
        )

    def _take_off(self, job: Job) -> None:
        """Take the newest helper off; the others get what it has not done."""
        helper: Worker | None = max(job.crew.helpers, key=lambda worker: worker.id, default=None)
        if helper is not None:
            if self._dispatch.leases.withdraw(helper, job):
                self._dispatch.want(job)
            helper.recall()
