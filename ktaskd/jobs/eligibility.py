"""Which workers a job may be given, as things stand. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ktaskd.jobs.job import Job
from ktaskd.jobs.queues import Queues, guest_queues, queues
from ktaskd.model.allowance import Level
from ktaskd.model.function import Partial
from ktaskd.model.job import JobState


def may_have_lead(job: Job, level: Level) -> bool:
    """Whether a job may have a lead: a waited one always, a rescued one unless detached jobs are paused."""
    waited = job.waited or (job.rescued and level < Level.PAUSED)
    return waited and not job.paced_until_s


def may_have_helpers(job: Job, can_raise: Callable[[], bool]) -> bool:
    """Whether a job may have helpers.

    A chunk that can neither be taken back, run twice nor raised is left to the lead.
    """
    declaration = job.checked.declaration
    safe = can_raise() or not declaration.writes or declaration.partial is Partial.RERUN_SAFE
    return safe or not job.waited


def may_step(job: Job, level: Level) -> bool:
    """Whether a job may do a step. While detached jobs are paused none begins; one that began goes on."""
    begun = job.state not in (JobState.QUEUED, JobState.RUNNING)
    return begun or job.waited or level < Level.PAUSED


def depends_on_level(job: Job) -> bool:
    """Whether the queues of a job depend on how far the work is restricted."""
    return job.rescued or job.step is not None or job.in_guest


def queues_of(job: Job, active: bool, left: bool, level: Level, can_raise: Callable[[], bool]) -> Queues:
    """The queues that a job belongs to.

    Args:
        active: it may be given chunks, and waits for no step.
        left: it has positions besides that no worker holds.
    """
    step = job.step is not None and job.crew.step_worker is None and may_step(job, level)
    if job.in_guest:
        free = (left or step) and job.crew.lead is None and not job.crew.helpers
        return guest_queues(lead=free and may_have_lead(job, level), helper=free and not job.has_lead)
    to_duplicate = bool(job.crew.to_duplicate)
    lead = (left or (active and to_duplicate)) and may_have_lead(job, level) and job.crew.lead is None
    # A helper that works in the lead's place has the only one that there is.
    replaced = bool(job.lead_limited_s) and len(job.crew.helpers) >= job.threads and not to_duplicate
    room = left and len(job.crew.helpers) < job.helpers_max and not job.full_disk
    helper = room and may_have_helpers(job, can_raise)
    return queues(lead=lead and not replaced, helper=helper, step=step)
