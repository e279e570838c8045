"""Brings a job to its next state after something has happened to it, by three tables.

An event edits the books of a job and marks the job. At the end of the outermost event, `settle` goes
through the marked jobs. For each, the table of guards names the event that is due, the table of transitions
(`machine.NEXT`) the next state, and the table of entries the work to do on entry. This is repeated until no
event is due. Then workers are assigned, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ktaskd.jobs.departures import Departures
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import Event
from ktaskd.model.job import JobState

Entry = Callable[[Job], None]
"""The work on entry into a state. It may edit the books, and so make the next event due."""


def _when_queued(job: Job, _: Departures) -> Event | None:
    if job.error is not None:
        return Event.STOP
    # Any other job starts when the first worker gets a part of it.
    return Event.START if job.step is None and not job.plan.total else None


def _when_running(job: Job, _: Departures) -> Event | None:
    if job.error is not None:
        return Event.STOP
    return None if job.left or job.step is not None or job.crew.busy else Event.ALL_DONE


def _when_combining(job: Job, departures: Departures) -> Event | None:
    if job.error is not None:
        return Event.STOP
    if job.step is not None or departures.are_awaited(job):
        return None
    # Processes that its workers started may still write.
    return Event.STOP if departures.are_stuck(job) else Event.FINISHED


def _when_draining(job: Job, departures: Departures) -> Event | None:
    return None if job.crew.busy or departures.are_awaited(job) else Event.DRAINED


def _when_undoing(job: Job, departures: Departures) -> Event | None:
    if job.step is not None or job.crew.step_worker is not None or departures.are_awaited(job):
        return None
    if job.positions.dirty or (departures.are_stuck(job) and job.checked.declaration.writes):
        return Event.END_DIRTY
    return Event.END_CANCELLED if job.is_cancel else Event.END_FAILED


def _when_ended(_: Job, __: Departures) -> Event | None:
    return None


GUARDS: Mapping[JobState, Callable[[Job, Departures], Event | None]] = {
    JobState.QUEUED: _when_queued,
    JobState.RUNNING: _when_running,
    JobState.COMBINING: _when_combining,
    JobState.DRAINING: _when_draining,
    JobState.UNDOING: _when_undoing,
    **{state: _when_ended for state in JobState if state.ended},
}
"""For each state, returns the event that is due according to the books; None = none."""


class Settling:
    """Collects the marked jobs, and settles them.

    Args:
        entries: the work to do when a job enters a state, by state.
    """

    def __init__(self, dispatch: Dispatch, departures: Departures, entries: Mapping[JobState, Entry]) -> None:
        """Start with no marked job."""
        self._dispatch = dispatch
        self._departures = departures
        self._entries = entries
        self._marked: dict[Job, None] = {}
        self._is_settling = False

    def mark(self, job: Job) -> None:
        """Mark a job whose books were edited."""
        self._marked[job] = None

    def settle(self, job: Job | None = None) -> None:
        """End an event: mark `job`. If no other event is under way, settle all marked jobs.

        They are brought to their next states; then workers are assigned.
        """
        if job is not None:
            self._marked[job] = None
        if self._is_settling:
            return  # a watcher of a job has made another event: the outermost one settles both
        self._is_settling = True
        try:
            while self._marked:
                job = next(iter(self._marked))
                # First of all: if a bug breaks its entry off, the next event must not take that for done.
                del self._marked[job]
                self._advance(job)
        finally:
            self._is_settling = False
        self._dispatch.pump()

    def apply(self, job: Job, event: Event) -> None:
        """Make one transition, and do the work on entry."""
        job.apply(event)
        self._entries[job.state](job)
        job.touch()

    def _advance(self, job: Job) -> None:
        while (event := self._due(job)) is not None:
            self.apply(job, event)
        if not job.state.ended:
            self._dispatch.refresh(job)

    def _due(self, job: Job) -> Event | None:
        if job.guest.worker is not None and _needs_no_worker(job):
            self._dispatch.dismiss_guest(job)
        return GUARDS[job.state](job, self._departures)


def _needs_no_worker(job: Job) -> bool:
    """Whether the job's guest may end: no worker holds a part of the job, which is about to change state."""
    return job.step is None and not job.crew.busy and job.state in (
        JobState.DRAINING, JobState.COMBINING, JobState.UNDOING
    )  # fmt: skip
