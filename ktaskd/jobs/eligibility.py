"""Decides which kinds of workers a job may get now. Pure."""

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

    If a chunk can be neither recalled nor duplicated, and helpers cannot be raised, only the lead runs it.
    """
    declaration = job.checked.declaration
    safe = can_raise() or not declaration.writes or declaration.partial is Partial.RERUN_SAFE
    return safe or not job.waited


def may_step(job: Job, level: Level) -> bool:
    """Whether a job may do a step. While detached jobs are paused, they begin none before their undo."""
    begun = job.state not in (JobState.QUEUED, JobState.RUNNING)
    return begun or job.waited or level < Level.PAUSED


def depends_on_level(job: Job) -> bool:
    """Whether the queues of a job depend on how far the work is restricted."""
    return job.rescued or job.step is not None or job.in_guest


def queues_of(job: Job, active: bool, left: bool, level: Level, can_raise: Callable[[], bool]) -> Queues:
    """The queues that a job belongs to.

    Args:
        active: its chunks may be given out, and it waits for no step.
        left: it also has positions that no worker holds.
    """
    step = job.step is not None and job.crew.step_worker is None and may_step(job, level)
    if job.in_guest:
        free = (left or step) and job.crew.lead is None and not job.crew.helpers
        return guest_queues(lead=free and may_have_lead(job, level), helper=free and not job.has_lead)
    to_duplicate = bool(job.crew.to_duplicate)
    lead = (left or (active and to_duplicate)) and may_have_lead(job, level) and job.crew.lead is None
    # A helper that works instead of the lead is the only worker that the job may have.
    replaced = bool(job.lead_limited_s) and len(job.crew.helpers) >= job.threads and not to_duplicate
    room = left and len(job.crew.helpers) < job.helpers_max and not job.full_disk
    helper = room and may_have_helpers(job, can_raise)
    return queues(lead=lead and not replaced, helper=helper, step=step)
