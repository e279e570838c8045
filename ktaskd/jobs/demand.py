"""The jobs that want workers: their queues, and which job is next in each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ktaskd.jobs.disks import Disks
from ktaskd.jobs.eligibility import depends_on_level, queues_of
from ktaskd.jobs.fairshare import FairQueue, Shares
from ktaskd.jobs.guests import recall_helper
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.jobs.queues import Queues
from ktaskd.jobs.roster import Roster

RECENT_S = 1.0
"""Chunks stay short for this long after another job arrives: small jobs often arrive one after the
other, and each would recall the long chunks."""


class MayDivide(Protocol):
    """As `Leases.may_divide`."""

    def __call__(self, job: Job, nid: int, /, *, lead: bool) -> bool:
        """Whether another worker, of this node, could get a part of a lease of the job."""


class RecentArrival:
    """Whether another job arrived a short while ago. Times are the event loop's."""

    def __init__(self) -> None:
        """Start with no arrival."""
        self._last_s = -RECENT_S

    def is_near(self, now_s: float) -> bool:
        """Whether the last job arrived so recently that the next may come soon."""
        return now_s < self._last_s + RECENT_S

    def comes(self, now_s: float) -> bool:
        """Note that a job arrives; return whether no other arrived recently."""
        first = not self.is_near(now_s)
        self._last_s = now_s
        return first


def recall_patient(job_of: Mapping[Worker, Job]) -> None:
    """Recall what workers hold without a limit of time, since another job arrives."""
    for worker, job in job_of.items():
        if job.has_leases or not (worker.is_lead or job.waited):
            worker.recall()


class Demand:
    """The jobs that want workers.

    Attributes:
        can_raise: whether a starved helper can be raised, so that a helper may be given a writer's chunk.
        shares: how much CPU time each user had; decides whose job is first in each queue.
        may_divide: whether a worker of a node could get a part of a lease of a job.
    """

    may_divide: MayDivide

    def __init__(self, roster: Roster) -> None:
        """Start without jobs."""
        self.can_raise: Callable[[], bool] = lambda: True
        self.shares = Shares()
        self.disks = Disks()
        queues = [FairQueue(self.shares) for _ in range(5)]
        self.for_leads, self.for_helpers, self.for_steps, *guests = queues
        self.for_guest_leads, self.for_guest_helpers = guests
        self._queues = tuple(zip([queue for queue in Queues if queue], queues, strict=True))
        self._roster = roster
        self._wanting: dict[Job, None] = {}
        self._arrival = RecentArrival()
        self._now = asyncio.get_running_loop().time

    def want(self, job: Job) -> None:
        """Note that the job has positions that no worker holds."""
        if job not in self._wanting and self._meets_others(job) and self._arrival.comes(self._now()):
            recall_patient(self._roster.job_of)
        self._wanting[job] = None
        self.disks.enter(job)
        self.refresh(job)

    def _meets_others(self, job: Job) -> bool:
        """Whether other jobs want workers, or hold leases when this one begins."""
        holding = self._roster.job_of.values() if not job.start_s else ()
        return bool(self._wanting) or any(other.has_leases for other in holding)

    def unwant(self, job: Job) -> None:
        """Give out nothing more of the job."""
        self._wanting.pop(job, None)
        self.disks.forget(job)
        self.refresh(job)
        job.lead_limited_s = 0.0

    def refresh(self, job: Job) -> None:
        """Put the job into the queues that it belongs to now."""
        roster = self._roster
        active = job in self._wanting and job.step is None and not roster.has_resting(job)
        left = active and (job.left > 0 or self.may_share(job))
        job.full_disk = self.disks.full(job) if left else ""
        queues = queues_of(job, active, left, roster.allowance.level, self.can_raise)
        if job.in_guest:
            recall_helper(job)
        # A job blocked by a disk limit is in no queue, but still counts as waiting so that its
        # user keeps the turn.
        waits = queues is not Queues.NONE or bool(job.full_disk)
        if waits != job.waits:
            (self.shares.enter if waits else self.shares.leave)(job.owner.uid)
            job.waits = waits
        if queues is not job.queues:
            job.queues = queues
            for flag, queue in self._queues:
                queue.put(job, flag in queues)

    def may_share(self, job: Job) -> bool:
        """Whether one more worker could get a part of what the job's workers have."""
        return job.goes_on and self.may_divide(job, job.owner.nid, lead=True)

    def refresh_all(self, more: Iterable[Job]) -> None:
        """Update the queues of all jobs whose queues depend on the allowance, and those of `more`."""
        concerned = filter(depends_on_level, (*self._wanting, *self.for_steps))
        for job in dict.fromkeys((*more, *self._roster.job_of.values(), *concerned)):
            self.refresh(job)

    def is_alone(self, job: Job) -> bool:
        """Whether no other job wants workers, and helpers may work all of the time."""
        others = len(self._wanting) - (job in self._wanting) - self._roster.idle_jobs(job)
        by_itself = others <= 0 and not self._arrival.is_near(self._now())
        return by_itself and self._roster.allowance.duty >= 1.0

    def firsts(self) -> list[Job]:
        """Return the next jobs, one for each uid: for a helper, and for a step."""
        return [*self.for_helpers.firsts(), *self.for_steps.firsts()]

    def turn(self, job: Job) -> tuple[float, bool]:
        """Return a sort key: the uid that had the least CPU time first, its steps before its chunks."""
        return self.shares.had(job.owner.uid), job.step is None

    def is_its_turn(self, worker: Worker, job: Job) -> bool:
        """Whether no job that waits for a worker of this class comes before `job`."""
        if not (job.left or job.has_leases) or job.step is not None or job not in self._wanting:
            return False
        return self.has_turn(worker, job)

    def has_turn(self, worker: Worker, job: Job) -> bool:
        """The same for a job that may have nothing left to give out."""
        if self.for_steps.is_before(job, steps=True):
            return False
        if worker.is_lead:
            return not (self.for_leads.is_before(job) or self.for_guest_leads.is_before(job))
        # A job blocked by a disk limit is in no queue.
        waits = self.disks.is_anothers_turn(job, self.shares.had)
        return not (waits or self.for_helpers.is_before(job) or self.for_guest_helpers.is_before(job))

    @property
    def leads_are_contended(self) -> bool:
        """Whether jobs wait for leads that other jobs hold, or some of these leads are blocked."""
        holders = self._roster.leads.holders
        waits = self.for_leads or self.for_guest_leads or self.for_steps
        return bool(holders.blocked or (waits and len(holders)))

    @property
    def helpers_are_contended(self) -> bool:
        """Whether jobs without a helper wait for those of other jobs, or some of these are blocked."""
        holders = self._roster.helpers.holders
        waits = self.for_steps or any(not job.crew.helpers for job in self.for_helpers)
        return bool(holders.blocked or (len(holders) and waits))
