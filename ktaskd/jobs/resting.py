"""Workers that rest: they wait in their chunk for a call of the caller's own code.

They use no CPU and hold no permit, and their job wants no more workers, since the next call goes to
one of them. When a call comes, such a worker does it at once. If it is then one worker too many, it
ends after the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ktaskd.jobs.demand import Demand
from ktaskd.jobs.eligibility import may_have_lead
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.jobs.roster import Roster
from ktaskd.model.allowance import Allowance


class Resting:
    """Updates permits, queues and CPUs when a worker begins or ceases to rest.

    Args:
        on_left: called with a worker that rests from now on.
        on_awake: called with a worker that continues, and its job.
        pump: gives out everything that can be given out.
    """

    def __init__(
        self,
        roster: Roster,
        demand: Demand,
        on_left: Callable[[Worker], None],
        on_awake: Callable[[Worker, Job], None],
        pump: Callable[[], None],
    ) -> None:
        """Start without a worker that rests."""
        self._roster, self._demand = roster, demand
        self._on_left, self._on_awake, self._pump = on_left, on_awake, pump

    def begin(self, worker: Worker, job: Job) -> None:
        """Note that a worker rests from now on; others get its permit and its CPU."""
        if worker.resting:
            return
        too_many = self._roster.rest(worker, job)
        self._demand.shares.let_go(job.owner.uid)
        self._on_left(worker)
        self._demand.refresh(job)
        self._roster.place_leads()
        for other in too_many:
            other.recall()
        self._pump()

    def end(self, worker: Worker, job: Job) -> None:
        """Note that a worker continues."""
        if not worker.resting:
            return
        now_s = asyncio.get_running_loop().time()
        self.leave(worker, job)
        for held in job.crew.held.get(worker, {}).values():
            held.sent_s = now_s  # the time between two calls does not count for the rate
        self._demand.refresh(job)
        self._on_awake(worker, job)
        self._roster.place_leads()
        self._roster.recall_excess()
        self._pump()

    def leave(self, worker: Worker, job: Job) -> None:
        """Note that a worker holds nothing any more, or is dead; ignored unless it rested."""
        if not worker.resting:
            return
        self._roster.wake(worker, job)
        shares, uid = self._demand.shares, job.owner.uid
        # Like a user that returns after a pause: resting saves up nothing.
        shares.enter(uid)
        shares.hold(uid)
        shares.leave(uid)


def recall_surplus(
    job_of: Mapping[Worker, Job], surplus: dict[int, int], allowance: Allowance, *, every: bool
) -> None:
    """Recall the chunks of workers that may not continue.

    Helpers that rest are not recalled as long as any helper may work.

    Args:
        surplus: by node, how many helpers are too many; those of detached jobs go first.
        every: recall all helpers that work.
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
