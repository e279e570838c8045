"""Records workers' answers on chunks in the books of the job: done, given back, failed or lost.

If two workers hold the same chunk, the job's crew decides whose answer counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ktaskd.jobs.course import function_error
from ktaskd.jobs.crew import HeldChunk
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.guests import killed_words
from ktaskd.jobs.items import ITEM_BYTES, encode
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.jobs.registry import Registry
from ktaskd.jobs.steps import Json
from ktaskd.model.function import Partial
from ktaskd.model.job import JobError
from ktaskd.model.limits import ATTEMPTS_MAX, HOLE_BYTES
from ktaskd.model.spans import Span
from ktaskd.pool.death import Death
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, FrameInvalid, LeaseDone
from ktaskd.worker.messages import Failed, Prior, Rests, Wakes

SLICES_LOST_MAX = 16
"""Workers that may die in a row in slices of one job, since a job that kills them all would never end."""

REST_S = 1.0
"""A starved helper gets no work for this long, since other processes have its CPU."""


class Chunks:
    """Records workers' answers on chunks.

    Args:
        note_progress: called with the uid of a job that has made progress.
    """

    def __init__(self, dispatch: Dispatch, registry: Registry, note_progress: Callable[[int], None]) -> None:
        """Needs the running loop, for its clock."""
        self._dispatch = dispatch
        self._registry = registry
        self._note_progress = note_progress
        self._now = asyncio.get_running_loop().time

    # -- done -----------------------------------------------------------------

    def take_done(self, worker: Worker, job: Job | None, done: Done) -> bool:
        """Record a chunk that is done, or given back from `done.reached` on.

        Returns:
            Whether nothing else has changed, so that the worker may get the next chunk of the same job.
        Raises:
            FrameInvalid: a sound worker does not send this; nothing is recorded.
        """
        held = job.crew.holding(worker, done.seq) if job is not None else None
        if job is None or held is None:
            raise FrameInvalid("it was not given that chunk")
        part = _checked_part(job, held, done)
        if done.combined and not (held.is_sole and done.reached - held.chunk.start == job.plan.total):
            raise FrameInvalid("it was not given the whole job")
        job.crew.take(worker, done.seq)
        self.account(job, worker, done.cpu_ns, held)
        whole = done.reached == held.chunk.end
        record = self._dispatch.roster[worker]
        if _counts(job, held, whole=whole):
            self._note(job, held, done, part)
            record.chunks += whole
        _forget_items(job, worker, held)
        cooldowns = self._dispatch.cooldowns
        if not worker.is_lead:
            cooldowns.keep_duty(done.cpu_ns / 1e9, self._dispatch.allowance.duty)
        if not whole and record.starved:
            cooldowns.pause(worker, self._now() + REST_S)
        # A helper that was starved is not given the same positions again before
        # the lead could take them; and a raised helper is lowered first.
        return whole and job.goes_on and not record.partly_raised

    def take_lease_done(self, worker: Worker, job: Job, done: LeaseDone) -> None:
        """Record what is done of a lease, of which its worker keeps the remainder.

        Raises:
            FrameInvalid: a sound worker does not send this; nothing is recorded.
        """
        held = job.crew.holding(worker, done.seq)
        if held is None or not held.is_lease:
            raise FrameInvalid("it was not given that lease")
        part = _checked_part(job, held, done)
        chunk = held.chunk
        self._charge(job, worker, done.cpu_ns, self._now() - held.sent_s)
        held.sent_s = self._now()
        if not _counts(job, held, whole=True):
            held.chunk = chunk.since(done.reached)
            return
        held.chunk = job.positions.advance(chunk, done.reached)
        self._note_progress(job.owner.uid)
        if (error := self._keep_part(job, chunk.start, part, done.part)) is not None:
            job.halt(error)

    def _note(self, job: Job, held: HeldChunk, done: Done, part: Json | None) -> None:
        chunk, reached, error = held.chunk, done.reached, None
        if job.checked.declaration.open_ended:
            self._note_slice(job, part)
            part = None
        job.positions.complete(chunk, reached)  # also where its part is too much: then it is undone
        if reached > chunk.start:
            error = self._keep_part(job, chunk.start, part, done.part)
            job.parts.is_combined = done.combined
            self._note_progress(job.owner.uid)
        whole = reached == chunk.end
        job.tally.chunks_done += whole or bool(held.slice_s)
        job.tally.recalled += not (whole or held.slice_s)
        if whole:
            self._learn(job, held)
        elif job.goes_on:
            self._dispatch.want(job)
        if error is not None:
            job.halt(error)

    def _note_slice(self, job: Job, part: Json | None) -> None:
        """Record a slice that ended well; after the last slice of a job none is begun."""
        job.tally.slices_lost = 0
        if part is not None and part.get("last"):
            job.positions.close()
            self._dispatch.unwant(job)

    def account(self, job: Job, worker: Worker, cpu_ns: int, held: HeldChunk | None = None) -> None:
        """Charge the CPU time of a chunk or a step to the job and its owner."""
        if held is None:
            self._charge(job, worker, cpu_ns)
        else:
            self._charge(job, worker, cpu_ns, self._now() - held.sent_s, held.charged_s)

    def _charge(
        self, job: Job, worker: Worker, cpu_ns: int, took_s: float = 0.0, charged_s: float = 0.0
    ) -> None:
        dispatch, cpu_s = self._dispatch, cpu_ns / 1e9
        dispatch.shares.charge(job.owner.uid, cpu_s - charged_s)
        if not worker.is_lead:
            job.tally.helper_ns += cpu_ns
            return
        job.tally.lead_ns += cpu_ns
        if quota := job.caller.cpu_quota:
            dispatch.pacer.charge((job.owner.uid, job.owner.pid), cpu_s, quota, self._now(), took_s)

    def _learn(self, job: Job, held: HeldChunk) -> None:
        now, worker = self._now(), held.worker
        job.learn(held.chunk.end - held.chunk.start, now - held.sent_s, lead=worker.is_lead)
        for other in job.crew.held[worker].values():
            other.sent_s = now  # it could not begin before

    def _keep_part(self, job: Job, start: int, part: Json | None, text: bytes) -> JobError | None:
        """Keep the result of a chunk; return the error that the job fails with if memory is short for it."""
        if part is None:
            return None
        if not job.counts_items:
            return self._registry.hold_results(job, job.parts.add(start, text))
        texts = [encode(result) for result in part["items"]]
        error = self._registry.hold_results(job, sum(map(len, texts)) + ITEM_BYTES * len(texts))
        if error is None:
            job.watched.note_items(job.checked, start, part["items"], by_role=not job.spec.items)
            job.add_items(start, texts)
        return error

    # -- while it is in hand --------------------------------------------------

    def take_rest(self, worker: Worker, job: Job, report: Rests | Wakes) -> None:
        """Record that a worker rests in its chunk until a call comes, or continues with it."""
        if not job.checked.declaration.open_ended or job.crew.holding(worker, report.seq) is None:
            worker.kill("sent nonsense (it cannot rest)")
        elif isinstance(report, Rests):
            self._dispatch.resting.begin(worker, job)
        else:
            self._dispatch.resting.end(worker, job)

    def take_prior(self, job: Job, prior: Prior) -> None:
        """Record what a span held; its worker reports that before it changes the span."""
        hold = self._registry.hold
        job.positions.report_prior(
            prior.start, prior.end, prior.holes, lambda count: hold(job, HOLE_BYTES * count)
        )

    # -- failed, lost ---------------------------------------------------------

    def take_failed(self, worker: Worker, job: Job, failed: Failed) -> bool:
        """Record a chunk that failed and was cleaned up; False = the worker has no such chunk."""
        held = job.crew.take(worker, failed.seq)
        if held is None:
            return False
        self.account(job, worker, failed.cpu_ns, held)
        self._give_back_unclaimed(job, held, worker.claim)
        chunk = held.chunk
        if not held.void:
            _counts(job, held, whole=True)
            job.positions.fail(chunk, failed.dirty)
            job.halt(function_error(failed, Span(chunk.start, chunk.end), chunk.nid))
        return True

    def lose(self, job: Job, lost: HeldChunk, death: Death, *, begun: bool) -> None:
        """Run a chunk again whose worker has died, or stop the job. Of a lease, only what it had claimed."""
        if begun:
            self._give_back_unclaimed(job, lost, death.claim)
        chunk, declaration = lost.chunk, job.checked.declaration
        attempt = job.attempts.get(chunk.start, 1)
        counts = _counts(job, lost, whole=False)
        if not counts and (lost.void or attempt < ATTEMPTS_MAX):
            job.attempts[chunk.start] = attempt + begun
            return  # its twin has it, or has done it
        if declaration.open_ended:
            _pass_slice(job, lost, death)
            return
        if begun:
            job.positions.note_touched(chunk, undoing=death.undoing)
        safe = not begun or declaration.partial is Partial.RERUN_SAFE
        killed = killed_words(job, death)
        if safe and not killed and attempt < ATTEMPTS_MAX and job.goes_on:
            job.attempts[chunk.start] = attempt + 1
            job.tally.retried += begun
            self.give_back(job, lost)
            return
        if counts:  # else its twin still holds it
            job.positions.lose(chunk)
        times = f", {attempt} times" if attempt > 1 else ""
        words = f"worker {death} in chunk [{chunk.start}, {chunk.end}){times}{killed}"
        span = Span(chunk.start, chunk.end)
        job.halt(JobError("WORKER_LOST", words, span, chunk.nid, signal=death.signal))

    def _give_back_unclaimed(self, job: Job, held: HeldChunk, claim: int) -> None:
        """Make wait again what its worker cannot have begun of a lease."""
        chunk = held.chunk
        if not held.is_lease or held.twin is not None or held.void or claim >= chunk.end:
            return
        held.chunk = job.positions.shorten(chunk, max(claim, chunk.start))
        if job.goes_on:
            self._dispatch.want(job)

    def give_back(self, job: Job, held: HeldChunk) -> None:
        """Make a chunk wait again: no worker holds it any more, and no part of it is done."""
        if not _counts(job, held, whole=False):
            return
        job.positions.give_back(held.chunk)
        if job.goes_on:
            self._dispatch.want(job)


def _counts(job: Job, held: HeldChunk, *, whole: bool) -> bool:
    """Whether this answer counts; if so, recall the worker that holds the same chunk."""
    counts, to_recall = job.crew.settle(held, whole=whole)
    if to_recall is not None:
        to_recall.recall()
    return counts


def _pass_slice(job: Job, lost: HeldChunk, death: Death) -> None:
    """Go on after a death in a slice: the client sees on its own connection which call has failed."""
    slice_ = lost.chunk
    job.tally.slices_lost += 1
    if job.tally.slices_lost < SLICES_LOST_MAX:
        job.positions.complete(slice_, slice_.end)
    else:
        job.positions.lose(slice_)
        words = f"worker {death}, and so did {job.tally.slices_lost - 1} before it"
        job.halt(JobError("WORKER_LOST", words, Span(slice_.start, slice_.end), signal=death.signal))


def _forget_items(job: Job, worker: Worker, held: HeldChunk) -> None:
    if job.items:
        worker.forget_items(item.sid for item in job.items[held.chunk.start : held.chunk.end])


def _checked_part(job: Job, held: HeldChunk, done: Done | LeaseDone) -> Json | None:
    """Return the result of a chunk; raises FrameInvalid if a sound worker does not send it."""
    chunk = held.chunk
    if not chunk.start <= done.reached <= chunk.end:
        raise FrameInvalid(f"reached {done.reached} in [{chunk.start}, {chunk.end})")
    part = frames.unpack_part(done.part) if done.part else None
    if job.counts_items and done.reached > chunk.start:
        items = part.get("items") if part is not None else None
        if not isinstance(items, list) or len(items) != done.reached - chunk.start:
            raise FrameInvalid(f"chunk of {done.reached - chunk.start} items: not as many results")
        if not all(isinstance(item, dict) for item in items):
            raise FrameInvalid("result of an item: is no object")
    return part
