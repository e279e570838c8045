"""The guards say which event is due for a job, as its books are; and a step keeps its count of attempts."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs import course
from ktaskd.jobs.accepted import Accepted, Sources
from ktaskd.jobs.crew import HeldChunk
from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import NEXT, Event
from ktaskd.jobs.settling import GUARDS
from ktaskd.jobs.steps import Combine, Finish, Restore
from ktaskd.model.checked import CheckedJob
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobError, JobId, JobSpec, JobState
from ktaskd.planner.plan import NodePart, Plan
from ktaskd.worker.messages import Failed, Value

ERROR = JobError("FUNCTION_ERROR", "it failed")
WORKER: Any = "worker"


class Leaving:
    """Stands for Departures: workers of the job that are to be seen dead, or were given up."""

    def __init__(self, *, awaited: bool = False, stuck: bool = False) -> None:
        self.awaited, self.stuck = awaited, stuck

    def are_awaited(self, job: Job) -> bool:
        return self.awaited

    def are_stuck(self, job: Job) -> bool:
        return self.stuck


def job_in(state: JobState, function: str = "file.crc32", *, total: int = 10, taken: bool = True) -> Job:
    """A job all of whose positions were given out, with nobody who holds anything."""
    checked = CheckedJob(CATALOGUE[function], {}, (), True, False, False)
    plan = Plan((NodePart(0, total),) if total else (), 1, 10, 1, 1, 10)
    who = Identity(1, 1, 1, nid=0)
    job = Job(Accepted(JobId("j"), 1, 0.0), JobSpec(function), checked, who, Sources(), plan)
    job.state = state
    if taken and total:
        job.positions.take(total, -1, lead=True, has_free=lambda _: False)
    return job


def due(job: Job, **leaving: bool) -> Event | None:
    departures: Any = Leaving(**leaving)
    event = GUARDS[job.state](job, departures)
    assert event is None or NEXT[job.state, event] is not None, "a guard has an event that changes nothing"
    return event


def busy(job: Job) -> Job:
    crew = job.muster()
    chunk = job.positions.take(1, -1, lead=True, has_free=lambda _: False)
    held: Any = HeldChunk(chunk, 0.0, WORKER)  # type: ignore[arg-type]
    crew.held[WORKER] = {1: held}
    return job


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.COMBINING])
def test_job_when_it_has_a_reason_to_stop_then_it_stops_whatever_it_does(state: JobState) -> None:
    job = job_in(state)
    job.halt(ERROR)
    assert due(busy(job)) is Event.STOP


def test_job_when_it_is_queued_then_started_by_its_first_worker_unless_there_is_nothing_to_do() -> None:
    assert due(job_in(JobState.QUEUED)) is None
    assert due(job_in(JobState.QUEUED, total=0)) is Event.START


def test_job_when_it_runs_then_all_is_done_when_nothing_waits_and_nobody_holds_anything() -> None:
    assert due(job_in(JobState.RUNNING)) is Event.ALL_DONE
    assert due(job_in(JobState.RUNNING, taken=False)) is None
    assert due(busy(job_in(JobState.RUNNING))) is None
    job = job_in(JobState.RUNNING)
    job.set_step(Combine([]))
    assert due(job) is None


def test_job_when_its_last_step_is_done_then_finished_once_its_workers_are_gone() -> None:
    job = job_in(JobState.COMBINING)
    assert due(job) is Event.FINISHED
    assert due(job, awaited=True) is None
    assert due(job, stuck=True) is Event.STOP
    job.set_step(Combine([]))
    assert due(job) is None


def test_job_when_it_stops_then_drained_once_nobody_holds_anything_and_its_workers_are_gone() -> None:
    assert due(job_in(JobState.DRAINING)) is Event.DRAINED
    assert due(job_in(JobState.DRAINING), awaited=True) is None
    assert due(busy(job_in(JobState.DRAINING))) is None


def test_job_when_it_is_undone_then_it_ends_as_its_books_say() -> None:
    job = job_in(JobState.UNDOING)
    job.error = ERROR
    assert due(job) is Event.END_FAILED
    assert due(job, awaited=True) is None
    job.is_cancel = True
    assert due(job) is Event.END_CANCELLED
    job.positions.mark_dirty([(0, 1)])
    assert due(job) is Event.END_DIRTY
    job.set_step(Restore(Value({})))
    assert due(job) is None


@pytest.mark.parametrize(
    ("function", "event"), [("file.crc32", Event.END_FAILED), ("file.copy", Event.END_DIRTY)]
)
def test_job_when_its_workers_are_given_up_then_dirty_if_it_writes(function: str, event: Event) -> None:
    assert due(job_in(JobState.UNDOING, function), stuck=True) is event


@pytest.mark.parametrize("state", [state for state in JobState if state.ended])
def test_job_when_it_has_ended_then_nothing_is_due(state: JobState) -> None:
    assert due(job_in(state), stuck=True) is None


def test_finish_when_it_is_given_back_then_it_waits_again_and_its_attempts_count_on() -> None:
    job = job_in(JobState.COMBINING)
    job.set_step(Finish(Value({}), {}, may_break_off=True))
    step = job.begin_step()
    assert job.take_step() is step
    course.note_failure(job, step, Failed(1, errno=errno.ECANCELED))
    assert (job.step, job.step_attempts, job.error) == (step, 1, None)
    job.take_step()
    course.note_failure(job, step, Failed(1, errno=errno.EIO, message="disk"))
    assert job.step is None
    assert job.error is not None
    assert job.error.errno == errno.EIO
