"""What a worker's answer on a chunk does to its job: done, given back, failed or lost.

Functions on the engine, as in `ending`. Whose answer counts is for the job's crew to say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ktaskd.jobs import ending
from ktaskd.jobs.guests import killed_words
from ktaskd.jobs.items import ITEM_BYTES, encode
from ktaskd.jobs.job import HeldChunk, Job, Json
from ktaskd.model.function import Partial
from ktaskd.model.job import JobError, JobState
from ktaskd.model.limits import ATTEMPTS_MAX, HOLE_BYTES
from ktaskd.model.spans import Span
from ktaskd.pool.link import Death, Worker
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, FrameInvalid, Note

if TYPE_CHECKING:
    from ktaskd.jobs.engine import Engine

TURNS_LOST_MAX = 16
"""Workers that may die in a row, in turns of one job: who kills them all would go on for ever."""

REST_S = 1.0
"""A helper that was starved gets nothing for so long: others have its CPU."""


# -- done --------------------------------------------------------------------------


def on_done(engine: Engine, worker: Worker, done: Done) -> None:
    """A chunk is done, or given back from `reached` on."""
    job = engine.dispatch.job_of.get(worker)
    held = job.crew.holding(worker, done.seq) if job is not None else None
    try:
        if job is None or held is None:
            raise FrameInvalid("it was not given that chunk")
        part = _checked_part(job, held, done)
    except FrameInvalid as error:
        worker.kill(f"sent nonsense ({error})")
        return
    job.crew.take(worker, done.seq)
    account(engine, job, worker, done.cpu_ns, held)
    whole = done.reached == held.chunk.end
    why = _take(engine, job, held, done, part) if _counts(job, held, whole=whole) else None
    _forget_items(job, worker, held)
    if not worker.is_lead:
        engine.dispatch.cooldowns.keep_duty(done.cpu_ns / 1e9, engine.dispatch.allowance.share)
    if not whole and worker.starved:
        engine.dispatch.cooldowns.pause(worker, asyncio.get_running_loop().time() + REST_S)
    if why is not None:
        _stop_after(engine, job, worker, why)
    elif job.state is not JobState.RUNNING or not whole or worker.lifted:
        # A helper that was starved is not given the same positions again
        # before the lead had its turn; and one that is raised is lowered first.
        engine.worker_left(worker, job)
    else:
        engine.dispatch.next(worker, job)
        engine.check_running(job)


def _stop_after(engine: Engine, job: Job, worker: Worker, error: JobError) -> None:
    """Stop a job because of an answer of a worker, when all that the answer says is noted.

    The worker is let go first: what is undone may be given to the next one at once.
    """
    if not job.crew.held.get(worker):
        engine.dispatch.release(worker)
    engine.stop(job, error)
    engine.after_worker(job)


def _counts(job: Job, held: HeldChunk, *, whole: bool) -> bool:
    """Whether this answer counts; recalls the worker that has lost against it."""
    counts, to_recall = job.crew.settle(held, whole=whole)
    if to_recall is not None:
        to_recall.recall()
    return counts


def _take(engine: Engine, job: Job, held: HeldChunk, done: Done, part: Json | None) -> JobError | None:
    """Note an answer; why the job is to be stopped, once the worker is let go."""
    chunk, reached, error = held.chunk, done.reached, None
    if job.checked.declaration.open_ended:
        _note_turn(engine, job, part)
        part = None
    job.positions.complete(chunk, reached)  # also where its part is too much: then it is undone
    if reached > chunk.start:
        error = _keep_part(engine, job, chunk.start, part, done.part)
        engine.rescue.note_progress(job.owner.uid)
    if reached < chunk.end:
        job.recalled += 1
        if job.state is JobState.RUNNING:
            engine.dispatch.want(job)
    else:
        job.chunks_done += 1
        held.worker.chunks += 1
        _learn(job, held)
    return error


def _note_turn(engine: Engine, job: Job, part: Json | None) -> None:
    """A turn has ended well; where it was the last one, no other is begun."""
    job.turns_lost = 0
    if part is not None and part.get("last"):
        job.positions.close()
        engine.dispatch.unwant(job)


def account(engine: Engine, job: Job, worker: Worker, cpu_ns: int, held: HeldChunk | None = None) -> None:
    """Note the CPU time that a chunk or a step took, and who owes for it."""
    dispatch, cpu_s = engine.dispatch, cpu_ns / 1e9
    dispatch.shares.charge(job.owner.uid, cpu_s - (held.charged_s if held is not None else 0.0))
    if not worker.is_lead:
        job.helper_ns += cpu_ns
        return
    job.lead_ns += cpu_ns
    if job.caller.cpu_quota:
        now = asyncio.get_running_loop().time()
        took_s = now - held.sent_s if held is not None else 0.0
        dispatch.pacer.charge((job.owner.uid, job.owner.pid), cpu_s, job.caller.cpu_quota, now, took_s)


def _learn(job: Job, held: HeldChunk) -> None:
    now, worker = asyncio.get_running_loop().time(), held.worker
    job.learn(held.chunk.end - held.chunk.start, now - held.sent_s, lead=worker.is_lead)
    for other in job.crew.held[worker].values():
        other.sent_s = now  # it could not begin before


def _keep_part(engine: Engine, job: Job, start: int, part: Json | None, text: bytes) -> JobError | None:
    """Hold what a chunk has found; why the job fails where that is too large for the memory."""
    if part is None:
        return None
    if job.counts_items:
        texts = [encode(result) for result in part["items"]]
        error = engine.registry.hold_results(job, sum(map(len, texts)) + ITEM_BYTES * len(texts))
        if error is None:
            job.watched.note_items(job, start, part["items"])
            job.add_items(start, texts)
    else:
        error = engine.registry.hold_results(job, job.parts.add(start, text))
    return error


def _forget_items(job: Job, worker: Worker, held: HeldChunk) -> None:
    if job.items:
        for position in range(held.chunk.start, held.chunk.end):
            worker.forget_item(job.items[position].sid)


def _checked_part(job: Job, held: HeldChunk, done: Done) -> Json | None:
    """The result of a chunk; raises FrameInvalid where no sound worker would send it."""
    chunk = held.chunk
    if not chunk.start <= done.reached <= chunk.end:
        raise FrameInvalid(f"reached {done.reached} in [{chunk.start}, {chunk.end})")
    part = frames.unpack_part(done.part) if done.part else None
    if job.counts_items and done.reached > chunk.start:
        items = part.get("items") if part is not None else None
        if not isinstance(items, list) or len(items) != done.reached - chunk.start:
            raise FrameInvalid(f"results of {done.reached - chunk.start} items wanted")
    return part


def on_rest(engine: Engine, job: Job, worker: Worker, note: Note) -> None:
    """A worker has nothing to do in its chunk for now, or goes on with it."""
    if not job.checked.declaration.open_ended or note.number not in job.crew.held.get(worker, {}):
        worker.kill("sent nonsense (it cannot rest)")
    elif note.kind == frames.RESTS:
        engine.dispatch.resting.begin(worker, job)
    else:
        engine.dispatch.resting.end(worker, job)


# -- before the first write ------------------------------------------------------------


def on_prior(engine: Engine, job: Job, body: Json) -> None:
    """A worker tells what a span holds before it changes it."""
    hold = engine.registry.hold
    job.positions.report_prior(
        body["start"], body["end"], body["holes"], lambda count: hold(job, HOLE_BYTES * count)
    )


# -- failed, lost ------------------------------------------------------------------------


def on_failed(engine: Engine, job: Job, worker: Worker, note: Note) -> None:
    """A chunk ended with an error; its worker has cleaned it up."""
    held = job.crew.take(worker, note.number)
    if held is None:
        worker.kill()
        return
    body, chunk = note.body, held.chunk
    account(engine, job, worker, int(body.get("cpu_ns", 0)), held)
    if held.void:
        engine.worker_left(worker, job)
        return
    _counts(job, held, whole=True)
    job.positions.fail(chunk, body.get("dirty", ()))
    _stop_after(engine, job, worker, ending.function_error(body, Span(chunk.start, chunk.end), chunk.nid))


def on_lost(engine: Engine, job: Job, lost: HeldChunk, death: Death, *, begun: bool) -> None:
    """The worker that held a chunk has died: run it again, or stop the job."""
    chunk, declaration = lost.chunk, job.checked.declaration
    attempt = job.attempts.get(chunk.start, 1)
    counts = _counts(job, lost, whole=False)
    if not counts and (lost.void or attempt < ATTEMPTS_MAX):
        job.attempts[chunk.start] = attempt + begun
        return  # somebody else has it, or has done it
    if declaration.open_ended:
        _pass_turn(engine, job, lost, death)
        return
    if begun:
        job.positions.note_touched(chunk, undoing=death.undoing)
    safe = not begun or declaration.partial is Partial.RERUN_SAFE
    killed = killed_words(job, death)
    if safe and not killed and attempt < ATTEMPTS_MAX and job.state is JobState.RUNNING:
        job.attempts[chunk.start] = attempt + 1
        job.rerun += begun
        take_back(engine, job, lost)
        return
    if counts:  # else its twin still holds it
        job.positions.lose(chunk)
    times = f", {attempt} times" if attempt > 1 else ""
    words = f"worker {death} in chunk [{chunk.start}, {chunk.end}){times}{killed}"
    error = JobError("WORKER_LOST", words, Span(chunk.start, chunk.end), chunk.nid, signal=death.signal)
    engine.stop(job, error)


def _pass_turn(engine: Engine, job: Job, lost: HeldChunk, death: Death) -> None:
    """The call that its worker died in is the caller's loss, who is told by its own line."""
    turn = lost.chunk
    job.turns_lost += 1
    if job.turns_lost < TURNS_LOST_MAX:
        job.positions.complete(turn, turn.end)
    else:
        job.positions.lose(turn)
        words = f"worker {death}, and so did {job.turns_lost - 1} before it"
        engine.stop(job, JobError("WORKER_LOST", words, Span(turn.start, turn.end), signal=death.signal))


def take_back(engine: Engine, job: Job, held: HeldChunk) -> None:
    """Nobody holds this chunk any more; nothing of it is done."""
    # Its worker's other chunk may have ended the job, which has no positions then.
    if not _counts(job, held, whole=False) or job.state.ended:
        return
    job.positions.give_back(held.chunk)
    if job.state is JobState.RUNNING:
        engine.dispatch.want(job)
