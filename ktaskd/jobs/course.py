"""Chooses the next step of a job, and records the answer to a step in the job's books. Knows no worker.

A job has one step at a time: `job.step`, which waits for a worker or is in the hands of one.
"""

from __future__ import annotations

import errno

from ktaskd.functions.failures import REASONS
from ktaskd.jobs.job import Job
from ktaskd.jobs.steps import (
    Combination,
    Combine,
    Finish,
    Json,
    Prepare,
    Restore,
    Step,
    Undo,
    too_large,
)
from ktaskd.model.job import JobError, JobState
from ktaskd.model.limits import ATTEMPTS_MAX
from ktaskd.model.spans import Span
from ktaskd.pool.death import Death
from ktaskd.worker.messages import Failed, Value

_NOTHING = Value({})


def begin_success(job: Job) -> None:
    """Begin the steps that combine the parts into the result, now that all positions are done.

    Everything was read: if a source changed meanwhile, the job gets a warning or fails.
    """
    if (error := job.watched.look(job.checked, job.sources)) is not None:
        job.halt(error)
        return
    declaration = job.checked.declaration
    if declaration.combine and not job.counts_items:
        job.course.combination = Combination.of(job.parts)
    job.course.is_to_finish = declaration.lifecycle
    take_next_step(job)


def begin_undo(job: Job) -> None:
    """Begin the steps that undo what was done, in ascending order, now that no worker holds anything."""
    job.watched.look(job.checked, job.sources)
    untouched = job.positions.untouched
    job.positions.begin_undo()
    job.course.is_to_restore = job.course.prepared is not None and (job.checked.undo or untouched)
    if not job.course.is_to_restore:
        mark_prepared_dirty(job)
    take_next_step(job)


def take_next_step(job: Job) -> None:
    """Set the job's next step, or none if nothing is left to do. The job fails if a step is too large."""
    step = _next_undo(job) if job.state is JobState.UNDOING else _next_success(job)
    if isinstance(step, Combine) and (words := too_large(step)):
        job.halt(JobError("RESULT_TOO_LARGE", words))
        return
    job.set_step(step)


def _next_success(job: Job) -> Step | None:
    course = job.course
    if course.combination is not None:
        if (step := course.combination.next()) is not None:
            return step
        combined, course.combination = course.combination.result, None
        _set_result(job, combined)
    if not course.is_to_finish:
        return None
    course.is_to_finish = False
    return Finish(job.course.prepared or _NOTHING, course.combined, job.checked.declaration.long_finish)


def _set_result(job: Job, combined: Json) -> None:
    job.course.combined = combined
    job.result = {name: value for name, value in combined.items() if not name.startswith("_")}


def _next_undo(job: Job) -> Step | None:
    if (step := job.positions.next_undo()) is not None:
        return Undo(step)
    if not job.course.is_to_restore:
        return None
    job.course.is_to_restore = False
    assert job.course.prepared is not None
    return Restore(job.course.prepared)


# -- answers ---------------------------------------------------------------------


def note_value(job: Job, step: Step, value: Value) -> None:
    """Record the value of a step that is done."""
    match step:
        case Prepare():
            job.course.prepared = value
        case Combine():
            assert job.course.combination is not None
            job.course.combination.add(value.content)
        case Finish():
            _amend(job, value.content.get("result"))
        case Undo():
            job.positions.put_back(step.span, value.kept)
        case Restore():
            pass


def _amend(job: Job, amended: object) -> None:
    if job.result is not None and isinstance(amended, dict):
        job.result |= {name: amended[name] for name in job.result if name in amended}


def note_failure(job: Job, step: Step, failed: Failed) -> None:
    """Record the error of a step: the job fails, or in the undo the step's span is dirty."""
    if job.state is JobState.UNDOING:
        lose_undo(job, step, 0)
    elif step.may_break_off and failed.errno == errno.ECANCELED and job.state is JobState.COMBINING:
        # Its worker was recalled; the parts that are done are not done again.
        job.set_step(step, again=True)
    else:
        job.positions.mark_failure(failed.dirty)
        job.halt(function_error(failed, None, -1))


def note_death(job: Job, step: Step, death: Death, killed: str, *, begun: bool) -> bool:
    """Record that a worker died in a step; return whether the step waits for another worker.

    Args:
        killed: why the next worker would be killed as well, in words; "" = it would not.
    """
    repeatable = is_repeatable(job, step)
    again = (not begun or repeatable) and not killed and job.state is not JobState.DRAINING
    if begun and isinstance(step, Finish):
        # Its changes count as dirty unless the job succeeds.
        job.positions.mark_dirty((job.course.prepared or _NOTHING).by_finish)
    if (begun or death.by_itself) and job.step_attempts >= ATTEMPTS_MAX:
        again = False
    if again:
        return True
    job.set_step(None)
    if job.state is JobState.UNDOING:
        lose_undo(job, step, death.position if begun and not repeatable else 0)
    else:
        job.halt(JobError("WORKER_LOST", f"worker {death} in {step.op}{killed}", signal=death.signal))
    return False


def lose_undo(job: Job, step: Step, reached: int) -> None:
    """Mark positions dirty that this step may not have put back; the other steps continue."""
    if isinstance(step, Undo):
        job.positions.lose_undo(step.span, reached)
    else:
        mark_prepared_dirty(job)


def give_up_undo(job: Job) -> None:
    """Mark everything dirty that no worker was asked to undo yet."""
    job.positions.give_up_undo()
    if job.course.is_to_restore:
        mark_prepared_dirty(job)
    job.course.is_to_restore = False


def mark_prepared_dirty(job: Job) -> None:
    """Mark dirty what the prepare step reported that it would change."""
    job.positions.mark_dirty((job.course.prepared or _NOTHING).by_prepare)


def is_repeatable(job: Job, step: Step) -> bool:
    """Whether a step may be repeated after it was begun."""
    return step.may_repeat(job.checked.declaration.partial, planned=job.course.prepared is not None)


def function_error(failed: Failed, chunk: Span | None, nid: int) -> JobError:
    """Return the error of a job whose function raised one."""
    reason = failed.reason if failed.reason in REASONS else "FUNCTION_ERROR"
    return JobError(reason, failed.message, chunk, nid, failed.errno, failed.exception)
