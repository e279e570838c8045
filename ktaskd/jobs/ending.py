"""The last steps of a job: combine and finish, or undo and restore.

Functions on the engine rather than a class: they are the part of it that runs
once for a job, with no state of their own.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from ktaskd.functions.failures import REASONS
from ktaskd.host.scheduling.cputime import is_runnable, read_cpu_seconds
from ktaskd.jobs.guests import killed_words
from ktaskd.jobs.items import encode
from ktaskd.jobs.job import Call, Job, Json
from ktaskd.jobs.machine import Event
from ktaskd.jobs.parts import take_fitting
from ktaskd.model.function import Partial
from ktaskd.model.job import JobError, JobState
from ktaskd.model.limits import ATTEMPTS_MAX, FRAME_BYTES_MAX
from ktaskd.model.spans import Span
from ktaskd.model.worker import WorkerState
from ktaskd.planner.undo import UndoStep
from ktaskd.pool.link import Death, Worker

if TYPE_CHECKING:
    from ktaskd.jobs.engine import Engine

log = logging.getLogger(__name__)

COMBINE_BYTES_MAX = FRAME_BYTES_MAX - 1024
"""Results that are combined at the same time, as JSON: they travel in one message."""

_Sight = tuple[Worker, int, int, float]
"""A worker at its step: its seq, its quanta and its CPU seconds so far."""


def function_error(body: Json, chunk: Span | None, nid: int) -> JobError:
    """What a worker's FAILED frame says, as a job's error."""
    reason = body.get("reason")
    return JobError(
        reason if reason in REASONS else "FUNCTION_ERROR",
        str(body.get("message", ""))[:4096],
        chunk,
        nid,
        int(body.get("errno", 0) or 0),
        str(body.get("exception", ""))[:16384],
    )


# -- success -------------------------------------------------------------------


def combine(engine: Engine, job: Job) -> None:
    """Combine the ordered chunk results, as many at a time as fit in a frame.

    All is read by now: where a source changed meanwhile the job says so, or fails.
    """
    if (error := job.watched.look(job)) is not None:
        engine.stop(job, error)
        return
    if job.counts_items or not job.checked.declaration.combine:
        finish(engine, job)
        return
    _combine_batch(engine, job, job.parts.take_all(), deque())


def _combine_batch(engine: Engine, job: Job, parts: deque[bytes], combined: deque[bytes]) -> None:
    """One round: `parts` are still to be combined, `combined` are done in this round."""
    if not parts and len(combined) == 1:
        job.combined = json.loads(combined[0])
        job.result = {name: value for name, value in job.combined.items() if not name.startswith("_")}
        finish(engine, job)
        return
    if not parts and combined:
        parts, combined = combined, deque()
    batch = take_fitting(parts)
    if (size := len(encode({"parts": batch}))) > COMBINE_BYTES_MAX:
        words = (
            f"results of {len(batch)} parts: {size} bytes, limit {COMBINE_BYTES_MAX} to be combined; "
            "have the function return less of each"
        )
        engine.stop(job, JobError("RESULT_TOO_LARGE", words))
        return

    def on_value(value: Json) -> None:
        combined.append(encode(value))
        _combine_batch(engine, job, parts, combined)

    _call(engine, job, Call("combine", {"parts": batch}, on_value))


def finish(engine: Engine, job: Job) -> None:
    """Let the function do its last step, then the job has succeeded."""
    if not job.checked.declaration.lifecycle:
        engine.end(job, Event.FINISHED)
        return

    def on_value(value: Json) -> None:
        amended = value.get("result")
        if job.result is not None and isinstance(amended, dict):
            job.result |= {name: amended[name] for name in job.result if name in amended}
        engine.end(job, Event.FINISHED)

    payload = {"prepared": job.prepared or {}, "combined": job.combined or {}}
    _call(engine, job, Call("finish", payload, on_value))


def _call(engine: Engine, job: Job, call: Call) -> None:
    job.calls.append(call)
    engine.dispatch.refresh(job)
    engine.dispatch.pump()


# -- failure -----------------------------------------------------------------------


def undo(engine: Engine, job: Job) -> None:
    """Undo what was completed, ascending, each position once, on one worker."""
    job.watched.look(job)
    untouched = job.positions.untouched
    job.positions.begin_undo()
    restores = job.prepared is not None and (job.checked.undo or untouched)
    if not restores:
        _note_changed_by(job, "prepare")
    job.restores = restores
    _end_if_undone(engine, job)
    engine.dispatch.refresh(job)
    engine.dispatch.pump()
    watch_steps(engine, job)


def _next_undo(engine: Engine, job: Job) -> Call | None:
    """The next call that takes back what the job did."""
    if (step := job.positions.next_undo()) is not None:
        return _undo_call(engine, job, step)
    if not job.restores:
        return None
    job.restores = False
    return Call("restore", {"prepared": job.prepared}, lambda _: _end_if_undone(engine, job))


def _undo_call(engine: Engine, job: Job, step: UndoStep) -> Call:
    payload = {"start": step.start, "end": step.end, "holes": step.holes}
    span = Span(step.start, step.end)
    return Call("undo", payload, partial(_on_undone, engine, job, span), span)


def _on_undone(engine: Engine, job: Job, span: Span, value: Json) -> None:
    job.positions.put_back(span, value.get("kept", ()))
    _end_if_undone(engine, job)


def _end_if_undone(engine: Engine, job: Job) -> None:
    if job.state is not JobState.UNDOING or job.calls or job.crew.step_worker is not None:
        return
    call = _next_undo(engine, job)
    if call is not None:
        job.calls.append(call)
        engine.dispatch.refresh(job)
    elif job.positions.dirty:
        engine.end(job, Event.END_DIRTY)
    else:
        engine.end(job, Event.END_CANCELLED if job.is_cancel else Event.END_FAILED)


# -- steps that go wrong ---------------------------------------------------------


def on_call_failed(engine: Engine, job: Job, call: Call, body: Json) -> None:
    """A step raised: before the end the job fails, in the undo its span is dirty."""
    if job.state is JobState.UNDOING:
        _undo_failed(job, call, call.span.start if call.span else 0)
        _end_if_undone(engine, job)
    elif _broken_off(job, call, body):
        # Its worker was wanted elsewhere; what it has done it does not do again.
        job.calls.appendleft(call)
        engine.dispatch.refresh(job)
    else:
        job.positions.mark_failure(body.get("dirty", ()))
        engine.stop(job, function_error(body, None, -1))


def _broken_off(job: Job, call: Call, body: Json) -> bool:
    """Whether a finish was given back, and not because the job was stopped."""
    may_be = call.op == "finish" and job.checked.declaration.long_finish
    return may_be and body.get("errno") == errno.ECANCELED and job.state is JobState.COMBINING


def on_call_lost(engine: Engine, job: Job, death: Death, *, begun: bool) -> None:
    """The worker died with a step in hand."""
    call = job.calls[0] if job.calls else None
    if call is None:
        return
    again = not begun or is_repeatable(job, call)
    if begun and call.op == "finish":
        _note_changed_by(job, "finish")  # which counts if it does not succeed after all
    if (begun or death.by_itself) and call.attempts >= ATTEMPTS_MAX:
        again = False
    killed = killed_words(job, death)
    if again and not killed and job.state is not JobState.DRAINING:
        engine.dispatch.refresh(job)
        return
    job.calls.popleft()
    if job.state is JobState.UNDOING:
        _undo_failed(job, call, death.position if begun and not is_repeatable(job, call) else 0)
        _end_if_undone(engine, job)
        return
    words = f"worker {death} in {call.op}{killed}"
    engine.stop(job, JobError("WORKER_LOST", words, signal=death.signal))


def _undo_failed(job: Job, call: Call, reached: int) -> None:
    """What this step had not put back for certain is dirty; the others go on."""
    if call.span is None:
        _note_changed_by(job, "prepare")
        return
    job.positions.lose_undo(call.span, reached)


def is_repeatable(job: Job, call: Call) -> bool:
    """Whether a step may be done again after it was begun.

    Combining reads nothing, and a prepare has changed nothing before it told what it would.
    """
    if call.op == "prepare":
        return job.prepared is None
    return call.op == "combine" or job.checked.declaration.partial is Partial.RERUN_SAFE


def _note_changed_by(job: Job, op: str) -> None:
    """What prepare or finish changes, as prepare has told, is not as it was."""
    job.positions.mark_dirty((job.prepared or {}).get(f"by_{op}", ()))


def watch_steps(engine: Engine, job: Job) -> None:
    """From now on kill a worker that stands still in a step: nobody can cancel that one."""
    if not job.step_watched and not job.state.ended:
        job.step_watched = True
        asyncio.get_running_loop().call_later(engine.grace_s, _look_at_step, engine, job, None)


def _look_at_step(engine: Engine, job: Job, seen: _Sight | None) -> None:
    """Whether nothing has moved since `seen`. One that is starved is runnable, and waited for."""
    if job.state.ended:
        return
    worker, delay_s = job.crew.step_worker, engine.grace_s
    now = (worker, job.crew.step_seq, worker.beats, read_cpu_seconds(worker.pid)) if worker else None
    if worker is not None and now == seen and not is_runnable(worker.pid):
        if worker.state is WorkerState.STOPPING:
            _give_up_on_step(engine, job, worker)
            return
        log.warning(
            "worker_killed job=%s worker=%d pid=%d reason=stands_still", job.id, worker.id, worker.pid
        )
        worker.kill(f"stood still for {engine.grace_s:g} s")
        worker.state, delay_s = WorkerState.STOPPING, engine.fence_s
    asyncio.get_running_loop().call_later(delay_s, _look_at_step, engine, job, now)


def _give_up_on_step(engine: Engine, job: Job, worker: Worker) -> None:
    """It was killed and is not seen dead: what is not undone by now will not be."""
    give_up_on(engine, job, {worker})
    for call in job.calls:
        _undo_failed(job, call, 0)
    job.calls.clear()
    _give_up_undo(job)
    if job.state is JobState.UNDOING:
        _end_if_undone(engine, job)
    else:
        assert job.error is not None
        engine.stop(job, job.error)
    engine.dispatch.pump()


def _give_up_undo(job: Job) -> None:
    """What no worker was asked to take back stays as it is."""
    job.positions.give_up_undo()
    if job.restores:
        _note_changed_by(job, "prepare")
    job.restores = False


def note_stuck(job: Job, error: JobError | None) -> None:
    """Processes that workers of the job have started are not seen dead: all that it may write is dirty."""
    if error is None:
        return
    if job.checked.declaration.writes:
        job.positions.mark_dirty([job.checked.span])
    if job.error is None or job.error.reason != "WORKER_STUCK":
        job.error = error


def give_up_on(engine: Engine, job: Job, workers: set[Worker]) -> None:
    """Workers that were killed and are not seen dead: their spans are dirty.

    They are never used again. The sources' descriptors that they have stay
    theirs; the job's are let go of.
    """
    for worker in workers:
        chunks = [held.chunk for held in job.crew.held.get(worker, {}).values()]
        for chunk in chunks:
            job.positions.lose(chunk)
        held = [(chunk.start, chunk.end) for chunk in chunks]
        if worker is job.crew.step_worker:
            held.append(job.checked.span)
        if job.checked.declaration.writes:
            job.positions.mark_dirty(held)
        spans = ", ".join(f"[{start}, {end})" for start, end in held)
        engine.dispatch.remove(worker)
        worker.state = WorkerState.STOPPING
        words = f"worker {worker.pid} was killed and is not dead after {engine.fence_s:g} s; it holds {spans}"
        if job.error is None or job.error.reason != "WORKER_STUCK":
            job.error = JobError("WORKER_STUCK", words)
