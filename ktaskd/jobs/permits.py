"""What a job may be given, as things stand. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Level
from ktaskd.model.function import Partial
from ktaskd.model.job import JobState


def may_have_lead(job: Job, level: Level) -> bool:
    """A waited job always, one that was rescued while detached ones are not paused."""
    waited = job.waited or (job.rescued and level < Level.PAUSED)
    return waited and not job.paced_until_s


def may_have_helpers(job: Job, can_raise: Callable[[], bool]) -> bool:
    """A chunk that can neither be taken back, run twice nor raised is the lead's alone."""
    declaration = job.checked.declaration
    safe = can_raise() or not declaration.writes or declaration.partial is Partial.RERUN_SAFE
    return safe or not job.waited


def may_step(job: Job, level: Level) -> bool:
    """A detached job is not begun while those are paused; what was begun is ended or undone."""
    begun = job.state not in (JobState.QUEUED, JobState.RUNNING)
    return begun or job.waited or level < Level.PAUSED
