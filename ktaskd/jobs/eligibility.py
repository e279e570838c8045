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


def depends_on_level(job: Job) -> bool:
    """Whether its lines, as `places` has them, depend on how far the work is restricted."""
    return job.rescued or bool(job.calls) or job.in_guest


Places = tuple[bool, bool, bool, bool, bool]
"""In which of the dispatch's lines: for leads, helpers, calls, guests that are leads, or helpers."""


def places(job: Job, active: bool, level: Level, can_raise: Callable[[], bool]) -> Places:
    """The lines that a job belongs to.

    Args:
        active: it may be given chunks, and waits for no call.
    """
    left = active and job.left > 0
    calls = bool(job.calls) and job.crew.step_worker is None and may_step(job, level)
    if job.in_guest:
        free = (left or calls) and job.crew.lead is None and not job.crew.helpers
        return _same((False, False, False, free and may_have_lead(job, level), free and not job.has_lead))
    to_duplicate = bool(job.crew.to_duplicate)
    lead = (left or (active and to_duplicate)) and may_have_lead(job, level) and job.crew.lead is None
    # A helper that works in the lead's place has the only one that there is.
    replaced = bool(job.lead_limited_s) and len(job.crew.helpers) >= job.threads and not to_duplicate
    lead = lead and not replaced
    room = left and len(job.crew.helpers) < job.helpers_max and not job.full_disk
    return _same((lead, room and may_have_helpers(job, can_raise), calls, False, False))


_KNOWN: dict[Places, Places] = {}


def _same(places: Places) -> Places:
    """One tuple for all jobs that stand in the same lines; each would keep its own."""
    return _KNOWN.setdefault(places, places)
