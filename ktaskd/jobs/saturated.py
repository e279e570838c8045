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
"""Time between two looks while a job has several workers."""


class SaturationWatch:
    """Looks at jobs with leases as long as one of them has several workers."""

    def __init__(self, dispatch: Dispatch) -> None:
        """Start without jobs. Needs the running loop."""
        self._dispatch = dispatch
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[Job, Saturation] = {}
        self._timer: asyncio.TimerHandle | None = None

    def on_join(self, job: Job) -> None:
        """Note that a worker has joined a job, whose crew has it already."""
        if not job.has_leases or len(job.crew.helpers) + (job.crew.lead is not None) < 2:
            return
        if job.saturation is None:
            writes = job.checked.declaration.writes
            job.saturation = Saturation(FIRST_WRITING_S if writes else FIRST_READING_S)
        self._jobs[job] = job.saturation
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        self._jobs = {job: known for job, known in self._jobs.items() if job.goes_on}
        for job, known in self._jobs.items():
            self._look_at(job, known)
        if self._jobs:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look_at(self, job: Job, known: Saturation) -> None:
        if not self._dispatch.demand.is_alone(job):
            return  # its workers come and go for other reasons
        workers = sum(map(bool, job.crew.held.values()))
        order = known.look(Look(self._loop.time(), view.progress(job).positions_done, workers))
        if order is Order.TAKE_OFF:
            self._take_off(job)
        elif order is Order.GIVE_BACK:
            self._dispatch.want(job)
            self._dispatch.pump()

    def _take_off(self, job: Job) -> None:
        """Take the newest helper off; the others get what it has not done."""
        helper: Worker | None = max(job.crew.helpers, key=lambda worker: worker.id, default=None)
        if helper is not None:
            if self._dispatch.leases.withdraw(helper, job):
                self._dispatch.want(job)
            helper.recall()
