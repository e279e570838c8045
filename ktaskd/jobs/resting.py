"""Workers that wait in their chunk for a call of the caller's own code, and their jobs.

They use no CPU, hold no permit, and their job wants no more workers: a call would go to one of them.
When a call comes such a worker does it at once; where it is one too many then, it ends after the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ktaskd.jobs.eligibility import may_have_lead
from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Allowance
from ktaskd.pool.link import Worker

if TYPE_CHECKING:
    from ktaskd.jobs.dispatch import Dispatch


class Resting:
    """Who rests."""

    def __init__(self, dispatch: Dispatch) -> None:
        """Nobody does."""
        self._dispatch = dispatch
        self._workers: dict[Job, set[Worker]] = {}

    def __contains__(self, job: Job) -> bool:
        """Whether a worker of the job waits for something to do."""
        return job in self._workers

    def idle_jobs(self, job: Job) -> int:
        """Other jobs that have workers, none of which works."""
        others = (other for other in self._workers if other is not job)
        return sum(all(worker.resting for worker in other.crew.busy) for other in others)

    def begin(self, worker: Worker, job: Job) -> None:
        """A worker has nothing to do; its permit and its CPU are others'."""
        if worker.resting:
            return
        worker.note_rest(resting=True)
        self._workers.setdefault(job, set()).add(worker)
        dispatch = self._dispatch
        too_many = dispatch.holders_of(worker).rest(worker)
        dispatch.shares.let_go(job.owner.uid)
        dispatch.on_left(worker)
        dispatch.refresh(job)
        dispatch.place_leads()
        for other in too_many:
            other.recall()
        dispatch.pump()

    def end(self, worker: Worker, job: Job) -> None:
        """It works on."""
        if not worker.resting:
            return
        dispatch, now_s = self._dispatch, asyncio.get_running_loop().time()
        self._forget(worker, job)
        for held in job.crew.held.get(worker, {}).values():
            held.sent_s = now_s  # what a turn takes is not the time between two calls
        dispatch.refresh(job)
        dispatch.on_awake(worker, job)
        dispatch.place_leads()
        dispatch.leads.recall_excess(dispatch.allowance)
        dispatch.helpers.recall_excess()
        dispatch.pump()

    def leave(self, worker: Worker, job: Job) -> None:
        """It holds nothing any more, or is dead."""
        if worker.resting:
            self._forget(worker, job)

    def _forget(self, worker: Worker, job: Job) -> None:
        worker.note_rest(resting=False)
        workers = self._workers[job]
        workers.remove(worker)
        if not workers:
            del self._workers[job]
        self._dispatch.holders_of(worker).wake(worker)
        shares, uid = self._dispatch.shares, job.owner.uid
        # As one who comes back after a pause: nobody saves up by resting.
        shares.enter(uid)
        shares.hold(uid)
        shares.leave(uid)


def recall_surplus(
    job_of: Mapping[Worker, Job], surplus: dict[int, int], allowance: Allowance, *, every: bool
) -> None:
    """Have workers give back what they hold that may not go on with it.

    Helpers that rest are left alone as long as any helper may work.

    Args:
        surplus: helpers of each node that are too many; those of detached jobs go first.
        every: all that work give back.
    """
    for worker, job in sorted(job_of.items(), key=lambda pair: pair[1].waited):
        if worker.is_lead:
            if not job.waited and not may_have_lead(job, allowance.level):
                worker.recall()
        elif worker.resting:
            if not allowance.helpers.get(worker.nid, 0):
                worker.recall()
        elif surplus[worker.nid] > 0 or every:
            surplus[worker.nid] -= 1
            worker.recall()
