"""The leads, and the permits by which jobs may have one.

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
    """All ready leads.

    Args:
        want: asks the pool for at least this many leads.
    """

    def __init__(self, want: Callable[[int], None]) -> None:
        """Start without leads."""
        self.idle: dict[Worker, None] = {}
        self.holders: Holders[Worker] = Holders()
        self._want = want

    def add(self, lead: Worker) -> None:
        """Note that a lead holds nothing."""
        self.idle[lead] = None

    def forget(self, lead: Worker) -> None:
        """Forget an idle lead: it gets no more work."""
        self.idle.pop(lead, None)

    def begin(self, lead: Worker, job: Job) -> None:
        """Note that a lead works for a job from now on."""
        self.idle.pop(lead, None)
        self.holders.add(lead, job.owner.uid, job.owner.payer, lead.nid)

    def end(self, lead: Worker) -> None:
        """Note that a lead works for no job any more."""
        self.holders.remove(lead)

    def may_begin(self, job: Job, allowance: Allowance) -> bool:
        """Whether a permit is free for the job."""
        holders = self.holders
        free = holders.active_total < allowance.leads
        free = free and holders.active_of(job.owner.uid) < allowance.leads_per_uid
        return free and holders.may_begin(job.owner.payer)

    def is_over(self, job: Job, allowance: Allowance) -> bool:
        """Whether more leads use a CPU than there are permits, since a blocked lead has continued."""
        holders = self.holders
        over = holders.active_total > allowance.leads
        return over or holders.active_of(job.owner.uid) > allowance.leads_per_uid

    def want(self, count: int, allowance: Allowance) -> None:
        """Ask for this many leads in addition to the busy ones, within the limit of leads."""
        self._want(
            min(len(self.holders) + count, allowance.leads + self.holders.blocked + self.holders.resting)
        )

    def pick(self, job: Job) -> Worker:
        """Return an idle lead, preferably one with the right priority and nothing of another user."""

        def cost(lead: Worker) -> tuple[bool, bool]:
            return not lead.has_priority_for(job.caller.priority), not lead.serves(job.owner.uid)

        return min(self.idle, key=cost)

    def recall_excess(self, allowance: Allowance) -> None:
        """Recall the chunks of the newest leads if more use a CPU than allowed.

        Leads of a client with low priority are recalled first.
        """
        excess = max(self.holders.active_total - allowance.leads, 0)
        ordered = sorted(self.holders.newest_active(), key=lambda lead: not lead.priority.lowered)
        for lead in ordered[:excess]:
            lead.recall()
