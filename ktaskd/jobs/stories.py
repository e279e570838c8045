"""Notes the situations of jobs: when their workers change, and a few times a second while any works.

A job that is over within QUIET_S keeps no history: it has nothing to tell that the job's record does not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ktaskd.jobs import view
from ktaskd.jobs.history import History, causes_of
from ktaskd.jobs.job import Job
from ktaskd.jobs.roster import Roster
from ktaskd.model.allowance import Allowance, Level, Reason
from ktaskd.model.job import JobState
from ktaskd.model.source import SourceKind
from ktaskd.model.story import Situation, Story
from ktaskd.planner.limiting import (
    MEMORY_GROUP,
    ONE_WRITER,
    STARTING,
    STARVED,
    Width,
    limit_of,
    width_limit,
)

LOOK_S = 0.2
"""Shortest time between two looks at the jobs that have workers."""

QUIET_S = 0.05
"""Shortest life of a job with a history."""

CHANGES_MAX = 64
"""Changes of the allowance that are known; a job that waits for longer is said to wait for the oldest."""

BUSY = Reason("WORKERS_BUSY", "all workers that may run it are taken")


class Stories:
    """Keeps the histories of jobs.

    Args:
        wall: seconds since the epoch.
        cpus: number of CPUs with helpers.
    """

    def __init__(self, roster: Roster, wall: Callable[[], float], cpus: int) -> None:
        """Start without jobs. Needs the running loop."""
        self._roster, self._wall, self._cpus = roster, wall, cpus
        self._loop = asyncio.get_running_loop()
        self._looked_s = 0.0
        self._changes: deque[tuple[float, tuple[Reason, ...]]] = deque(maxlen=CHANGES_MAX)

    # -- events -----------------------------------------------------------------

    def on_launch(self, job: Job) -> None:
        """Note why a job that was just accepted has to wait, if it has to."""
        if job.state is JobState.QUEUED:
            job.record.queued_for = tuple(reason.code for reason in self._own_reasons(job))

    def on_allowance(self, allowance: Allowance) -> None:
        """Note a change of the allowance, for jobs that have no workers at the time. Thousands may wait."""
        reasons = _reasons_of(allowance)
        before = self._changes[-1][1] if self._changes else ()
        if [one.code for one in reasons] != [one.code for one in before]:
            self._changes.append((self._loop.time(), reasons))

    def on_crew(self, job: Job) -> None:
        """Note that a worker has joined or left a job."""
        if job.state.ended:
            return
        if self._is_simple(job) and self._since_acceptance(job) < QUIET_S:
            # Most jobs are over soon; the words would cost more than all other books of such a job.
            job.record.early = len(job.crew.helpers), int(job.crew.lead is not None)
        else:
            self._note(job)

    def _is_simple(self, job: Job) -> bool:
        """Whether nothing is known yet that keeps workers from the job."""
        limited = job.full_disk or job.lead_limited_s or job.paced_until_s
        return not limited and job.record.history is None and self._roster.allowance.level is Level.RUN

    def end(self, job: Job) -> None:
        """Close the history of a job that ends, while its books are still there."""
        job.record.width = width_limit(self._width_of(job))
        history, at_s = job.record.history, self._since_acceptance(job)
        if history is None and at_s >= QUIET_S:
            history = self._begin(job, ())
        if history is not None and at_s < QUIET_S and history.count < 3:
            history = None
        if history is not None:
            self._replay(job, history)
            history.end(self._loop.time() - history.origin_s)
        job.record.history = history

    # -- looks ------------------------------------------------------------------

    def look(self) -> None:
        """Note the situations of all jobs that have workers, unless that was done a moment ago."""
        if self._loop.time() - self._looked_s >= LOOK_S:
            self._looked_s = self._loop.time()
            for job in dict.fromkeys(self._roster.job_of.values()):
                self._note(job)

    def _note(self, job: Job) -> None:
        reasons = (*self._governing(job), *self._own_reasons(job))
        situation = self._situation(job, tuple(reason.code for reason in reasons))
        history = job.record.history
        if history is None:
            history = job.record.history = self._begin(job, situation.causes)
        self._replay(job, history)
        history.wanted, history.width = max(job.threads, 1), width_limit(self._width_of(job))
        history.note(self._loop.time() - history.origin_s, situation, reasons, job.tally.recalled)

    def _begin(self, job: Job, causes: tuple[str, ...]) -> History:
        """Return a history with the time before its first note.

        Args:
            causes: why the job has no more workers now; they held from its beginning on.
        """
        origin_s = self._loop.time() - self._since_acceptance(job)
        history = History(origin_s, max(job.threads, 1), width_limit(self._width_of(job)))
        if job.record.early is not None:
            helpers, leads = job.record.early
            history.note(job.start_s - job.create_s, Situation(JobState.RUNNING, helpers, leads, causes))
        elif self._since_acceptance(job) >= QUIET_S:
            before = next((one for at_s, one in reversed(self._changes) if at_s <= origin_s), ())
            self._note_governed(job, history, 0.0, before)
        return history

    def _replay(self, job: Job, history: History) -> None:
        """Note the changes of the allowance since the last note."""
        since_s = history.origin_s + history.since_s
        if self._changes and self._changes[-1][0] > since_s:
            for at_s, reasons in self._changes:
                if at_s > since_s:
                    self._note_governed(job, history, at_s - history.origin_s, reasons)

    def _note_governed(self, job: Job, history: History, at_s: float, reasons: tuple[Reason, ...]) -> None:
        own = job.record.queued_for if history.now.state is JobState.QUEUED else ()
        codes = tuple(one.code for one in reasons) if _is_governed(job) else ()
        history.note(at_s, history.now._replace(causes=(*codes, *own)), reasons if codes else ())

    def _since_acceptance(self, job: Job) -> float:
        return max(self._wall() - job.create_s, 0.0)

    def _governing(self, job: Job) -> tuple[Reason, ...]:
        return _reasons_of(self._roster.allowance) if _is_governed(job) else ()

    def _own_reasons(self, job: Job) -> tuple[Reason, ...]:
        """The reasons that are not the governor's."""
        found = view.own_reasons(job)
        busy = len(job.crew.busy)
        if found or busy >= job.threads_paying or self._governing(job):
            return found
        others = any(other is not job for other in self._roster.job_of.values())
        return (BUSY,) if others else ()

    def _situation(self, job: Job, causes: tuple[str, ...]) -> Situation:
        crew = job.crew
        lead = crew.lead is not None and not crew.lead.resting
        helpers = [helper for helper in crew.helpers if not helper.resting]
        starved = sum(record.starved for helper in helpers if (record := self._roster.find(helper)))
        found = Situation(
            job.state, len(helpers), int(lead), (STARVED, *causes) if starved else causes, starved
        )
        # A job that has all of its workers lacks none, whatever else is said about the machine.
        return found if found.at_work < job.threads else found._replace(causes=())

    def _width_of(self, job: Job) -> Width:
        caller, plan, checked = job.caller, job.plan, job.checked
        return Width(
            alone=_alone(job),
            wanted=plan.wanted,
            threads=job.threads,
            total=plan.total,
            min_chunk=plan.min_chunk,
            max_threads=job.spec.max_threads,
            cpu_quota=caller.cpu_quota,
            cpus=len(caller.cpus),
            machine_cpus=self._cpus,
            by_file=job.counts_items or checked.declaration.whole_files,
        )

    # -- what is told -----------------------------------------------------------

    def story(self, job: Job) -> Story:
        """Return the history of a job up to now, or up to its end."""
        steps_s = job.tally.steps_ns / 1e9 if job.state is not JobState.QUEUED else 0.0
        if job.state.ended:
            if job.record.history is not None:
                return job.record.history.story(0.0, steps_s)
            return _short_story(job, steps_s)
        history = job.record.history
        if history is None:
            history = self._begin(job, ())  # thrown away: thousands may wait
            self._replay(job, history)
        else:
            self._note(job)
        return history.story(self._loop.time() - history.origin_s, steps_s)


def _short_story(job: Job, steps_s: float) -> Story:
    """The story of a job that has no history."""
    began_s = job.start_s or job.end_s
    times = {STARTING: began_s - job.create_s, job.record.width: job.end_s - began_s}
    return Story((), causes_of(times, {}), limit_of(times), max(job.threads, 1), steps_s)


def _is_governed(job: Job) -> bool:
    """Whether the allowance decides how many workers it has: a job of only a lead ignores it."""
    return job.plan.wanted > job.waited


def _reasons_of(allowance: Allowance) -> tuple[Reason, ...]:
    return allowance.reasons if allowance.level is not Level.RUN else ()


def _alone(job: Job) -> str:
    if job.guest.limit is not None:
        return MEMORY_GROUP
    for role in job.checked.declaration.sources:
        source = job.sources.get(role.role) if role.one_writer else None
        if source is not None and source.facts.kind is SourceKind.FILE:
            return ONE_WRITER
    return ""
