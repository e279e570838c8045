"""Processes chunks and leases, and answers them."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from dataclasses import dataclass

from ktaskd.host import faults, logline
from ktaskd.host.memory import mempolicy
from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.worker import frames
from ktaskd.worker.causes import explained
from ktaskd.worker.control import (
    ChunkControl,
    FaultyControl,
    FaultyLeaseControl,
    LeaseControl,
    UndoControl,
)
from ktaskd.worker.failures import changed_elsewhere, encoded, failure
from ktaskd.worker.faultpoints import FaultPoints
from ktaskd.worker.frames import (
    SLOT_END,
    SLOT_POSITION,
    SLOT_RECALL,
    SLOT_SEQ,
    SLOT_UNDOING,
    Lease,
    pack_done,
    pack_note,
    pack_part,
    pack_whole,
)
from ktaskd.worker.jobs import Job, Json, Known

LOG_NAME = "ktaskd.worker"


@dataclass(slots=True)
class _Run:
    """The work on a lease: [at, end) is being worked on, after the last report, which was at `since_ns`."""

    at: int
    end: int
    since_ns: int

    def spent_ns(self) -> int:
        """The CPU time since the last report, which is now."""
        before, self.since_ns = self.since_ns, time.thread_time_ns()
        return self.since_ns - before


class Chunks:
    """Processes one chunk or lease at a time.

    Args:
        words: the worker's page of the board, as 64-bit words.
        own_nid: the worker's own node.
    """

    def __init__(
        self, words: memoryview, sock: socket.socket, known: Known, own_nid: int, points: FaultPoints
    ) -> None:
        """Take new pages from the worker's own node at first."""
        self._words = words
        self._send = sock.send
        self._known = known
        self._own_nid = self._memory_nid = own_nid
        self._points = points
        self._chunk_control = ChunkControl(words, sock.send, sock.fileno())
        self._lease_control = LeaseControl(words, sock.send, sock.fileno())
        if faults.ON:
            self._chunk_control = FaultyControl(words, sock.send, sock.fileno())
            self._lease_control = FaultyLeaseControl(words, sock.send, sock.fileno())
            self._chunk_control.fault = self._lease_control.fault = points.hit
        self._control = self._chunk_control

    def process(self, seq: int, jno: int, start: int, end: int, nid: int) -> None:
        """Process one chunk and answer it."""
        if not self._begin(seq, jno, start, nid):
            return
        before = time.thread_time_ns()
        control = self._control = self._chunk_control
        control.begin(seq)
        job = None
        try:
            job = self._known.jobs.get(jno) or self._known.job(jno)
            control.room = job.room
            reached, value = job.body.run(job.context, start, end, control)
            part = b"" if value is None else encoded(value)
        except Exception as error:
            self._send_failed(seq, job, (start, end), explained(error, job), before)
            return
        self._send_done(pack_done(seq, reached, time.thread_time_ns() - before, part))

    def process_lease(self, lease: Lease) -> None:
        """Process a lease, report what is done of it from time to time, and answer it in the end."""
        if not self._begin(lease.seq, lease.jno, lease.start, lease.nid):
            return
        run = _Run(lease.start, lease.start, time.thread_time_ns())
        self._control = self._lease_control
        job = None
        try:
            job = self._known.jobs.get(lease.jno) or self._known.job(lease.jno)
            answer = self._work(job, lease, run)
        except Exception as error:
            span = run.at, max(run.at, run.end)
            self._send_failed(lease.seq, job, span, explained(error, job), run.since_ns)
            return
        self._send_done(answer)

    def _work(self, job: Job, lease: Lease, run: _Run) -> bytes:
        """Work on a lease until it is over; return the answer."""
        control, part = self._lease_control, b""
        control.room = job.room
        control.open(lease.seq, job.declaration, _ends_at(lease.slice_ms))
        while run.at < control.resume(run.at):
            run.end = control.end
            position, value = job.body.run(job.context, run.at, run.end, control)
            reached = control.reached(position)
            if lease.sole and (run.at, reached) == (lease.start, lease.end):
                return self._whole(job, lease, value, run)
            part = b"" if value is None or reached == run.at else encoded(value)
            last, run.at = run.at, reached  # not earlier: where the result is too large, this is undone
            if run.at >= self._words[SLOT_END] or control.is_over():
                break
            if run.at > last:
                self._send(pack_part(lease.seq, run.at, run.spent_ns(), part))
                part = b""
        return pack_done(lease.seq, run.at, run.spent_ns(), part)

    def _whole(self, job: Job, lease: Lease, value: Json | None, run: _Run) -> bytes:
        """The answer on a lease that was the whole job: its result needs no step to combine it."""
        parts = [] if value is None else [value]
        try:
            result = encoded(job.body.combine(job.context, parts))
        except Exception:
            # The step will fail in the same way, and then the job can be undone.
            return pack_done(lease.seq, lease.end, run.spent_ns(), b"" if value is None else encoded(value))
        return pack_whole(lease.seq, lease.end, run.spent_ns(), result)

    def _begin(self, seq: int, jno: int, start: int, nid: int) -> bool:
        """Publish that a chunk or lease has begun; return False if it was recalled, and so is given back."""
        if nid != self._memory_nid:
            self._move_memory(nid)
        if faults.ON:
            self._points.begin(jno, "worker.before_ack")
        words = self._words
        # In this order: a reader that sees this seq also sees its position.
        words[SLOT_POSITION] = start
        words[SLOT_SEQ] = seq
        if words[SLOT_RECALL] >= seq:
            self._send(pack_done(seq, start, 0, b""))
            return False
        return True

    def _send_done(self, frame: bytes) -> None:
        if faults.ON:
            self._points.hit("worker.after_work")
            frame = frame[: len(frame) // 2] if self._points.hit("worker.half_frame") else frame
        self._send(frame)

    def return_memory(self) -> None:
        """Take new pages from the worker's own node again."""
        if self._memory_nid not in (NUMA_NO_NODE, self._own_nid):
            self._move_memory(NUMA_NO_NODE)

    def forget(self) -> None:
        """Keep nothing of the chunks so far."""
        self._chunk_control.begin(0)
        self._lease_control.begin(0)

    def _move_memory(self, nid: int) -> None:
        """Take new pages from node `nid`; for NUMA_NO_NODE from the worker's own again.

        A lead runs where its client does, and a helper may help another node: the pages that
        they touch first still belong on the node of the range.
        """
        wanted = self._own_nid if nid == NUMA_NO_NODE else nid
        self._memory_nid = nid
        with contextlib.suppress(OSError):  # what is not available was reported at the start
            if wanted == NUMA_NO_NODE:
                mempolicy.apply_default()
            else:
                mempolicy.apply_preferred(wanted)

    def _send_failed(
        self, seq: int, job: Job | None, span: tuple[int, int], error: Exception, before: int
    ) -> None:
        """Clean the chunk up as far as possible, then report how it failed."""
        start, end = span
        reached = min(max(self._words[SLOT_POSITION], start), end)
        dirty = self._clean(job, start, reached) if job is not None else []
        dirty += changed_elsewhere(error)
        body = failure(error, before, own=job is not None and job.declaration.own)
        self._send(pack_note(frames.FAILED, seq, {**body, "reached": reached, "dirty": dirty}))

    def _clean(self, job: Job, start: int, reached: int) -> list[list[int]]:
        """Undo a chunk that failed; returns what may still be changed."""
        if start >= reached:
            return []
        if not job.declaration.undo:
            return [[start, reached]] if job.declaration.writes_bytes else []
        self._words[SLOT_UNDOING] = self._words[SLOT_SEQ]
        fault = self._points.hit if faults.ON else None
        control = UndoControl(self._words, publish=False, fault=fault)
        try:
            kept = job.body.undo(job.context, start, reached, self._control.holes, control)
        except Exception as error:
            logline.report_exception(LOG_NAME, error)
            return [[start, reached]]
        return [[first, after] for first, after in kept]


def _ends_at(slice_ms: int) -> float:
    """The end of a slice that begins now, on the monotonic clock."""
    return time.monotonic() + slice_ms / 1000 if slice_ms else math.inf
