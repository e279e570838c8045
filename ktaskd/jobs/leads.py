"""Which leads are free, and which job may have one.

A lead that uses a CPU holds a *permit*, of which there are `Allowance.leads` in all and
`Allowance.leads_per_uid` for a user. A lead that is blocked holds none.
"""

from __future__ import annotations

from collections.abc import Callable

from ktaskd.jobs.holders import Holders
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.model.allowance import Allowance


class Leads:
    """All leads that are ready.

    Args:
        want: asks the pool for at least so many leads.
    """

    def __init__(self, want: Callable[[int], None]) -> None:
        """Know none yet."""
        self.idle: dict[Worker, None] = {}
        self.holders: Holders[Worker] = Holders()
        self._want = want

    def add(self, lead: Worker) -> None:
        """It has nothing in hand."""
        self.idle[lead] = None

    def forget(self, lead: Worker) -> None:
        """It is not to be given anything."""
        self.idle.pop(lead, None)

    def begin(self, lead: Worker, job: Job) -> None:
        """It works for a job from now on."""
        self.idle.pop(lead, None)
        self.holders.add(lead, job.owner.uid, job.owner.payer, lead.nid)

    def end(self, lead: Worker) -> None:
        """It works for nobody any more."""
        self.holders.remove(lead)

    def may_begin(self, job: Job, allowance: Allowance) -> bool:
        """Whether a permit is free for the job."""
        holders = self.holders
        free = holders.active_total < allowance.leads
        free = free and holders.active_of(job.owner.uid) < allowance.leads_per_uid
        return free and holders.may_begin(job.owner.payer)

    def is_over(self, job: Job, allowance: Allowance) -> bool:
        """Whether more permits are taken than there are, since a lead was blocked and goes on."""
        holders = self.holders
        over = holders.active_total > allowance.leads
        return over or holders.active_of(job.owner.uid) > allowance.leads_per_uid

    def want(self, count: int, allowance: Allowance) -> None:
        """Have so many more leads started as there may be."""
        self._want(
            min(len(self.holders) + count, allowance.leads + self.holders.blocked + self.holders.resting)
        )

    def pick(self, job: Job) -> Worker:
        """An idle lead: better one that need not change its priority, nor forget another user's jobs."""

        def cost(lead: Worker) -> tuple[bool, bool]:
            return not lead.has_priority_for(job.caller.priority), not lead.serves(job.owner.uid)

        return min(self.idle, key=cost)

    def recall_excess(self, allowance: Allowance) -> None:
        """Have the newest leads give back what they hold, where more use a CPU than may.

        Those that stand in for a client of low priority go first.
        """
        excess = max(self.holders.active_total - allowance.leads, 0)
        ordered = sorted(self.holders.newest_active(), key=lambda lead: not lead.priority.lowered)
        for lead in ordered[:excess]:
            lead.recall()
