"""The life of a worker: set up, say so, then one frame after the other.

Runs in a freshly forked process. The daemon is at the other end of the socket;
when it closes it, the worker ends. A worker may be killed at any instruction:
what the daemon must know then is in the shared page or was sent before.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import socket
import sys
import time
import traceback
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ktask.v1 import start

from ktaskd.functions import bodies, quanta
from ktaskd.functions.body import Body
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.functions.failures import Failed
from ktaskd.host import faults, logline
from ktaskd.host.memory import mempolicy
from ktaskd.model.limits import FRAME_BYTES_MAX, NUMA_NO_NODE, PART_BYTES_MAX
from ktaskd.model.worker import Placement
from ktaskd.worker import again, frames, setup
from ktaskd.worker.again import Board, Held
from ktaskd.worker.causes import explained
from ktaskd.worker.codec import applied_to_json, facts_from_json
from ktaskd.worker.control import ChunkControl, FaultyControl, FinishControl, UndoControl
from ktaskd.worker.frames import (
    BATCH,
    CHUNK,
    SLOT_POSITION,
    SLOT_RECALL,
    SLOT_SEQ,
    SLOT_UNDOING,
    pack_done,
    pack_note,
)
from ktaskd.worker.jobs import Job, Known
from ktaskd.worker.sources import Source

Json = dict[str, Any]

EXIT_SETUP = 71
"""Exit status of a worker that could not become what it should. As EX_OSERR."""
EXIT_GROUP = 72
"""Exit status of a worker that could not enter the memory cgroup it should. As EX_OSFILE."""
EXIT_BROKEN = 70
"""Exit status of a worker that does not understand its daemon. As EX_SOFTWARE."""

LOG_NAME = "ktaskd.worker"

_FDS_PER_FRAME = 4
"""One is expected; the rest is received to be closed."""
_ANCILLARY = socket.CMSG_SPACE(_FDS_PER_FRAME * array("i").itemsize)
_MESSAGE_MAX = 4096
_ERRNO_MAX = 4095
"""Source: include/linux/err.h"""
_TRACEBACK_MAX = 4 * _MESSAGE_MAX


def run(
    sock: socket.socket,
    slot: memoryview,
    placement: Placement,
    *,
    parent: int = 0,
    told: Sequence[str] = (),
    board: Board | None = None,
) -> NoReturn:
    """Be a worker, until the daemon closes the socket. Never returns.

    Args:
        sock: this worker's end of a SOCK_SEQPACKET pair.
        slot: its page of the board, SLOT_BYTES long and writable.
        parent: pid of the pool host that forked it; 0 = whoever it is now.
        told: what could not be applied before, in words.
        board: the same page for a worker that may have to start again; its descriptor stays open.
    """
    status = EXIT_SETUP
    try:
        faults.hit("worker.at_start")
        applied = setup.apply(placement, parent, told)
        status = EXIT_BROKEN
        # What the template loaded stays; looking through it would copy its pages.
        gc.freeze()
        sock.setblocking(True)
        confined = not placement.own_code
        worker = Worker(sock, slot.cast("Q"), placement.nid, confined=confined, board=board)
        worker.send(pack_note(frames.READY, 0, applied_to_json(applied)))
        worker.serve()
        status = 0
    except setup.GroupClosed as error:
        logline.report(LOG_NAME, f'group_closed error="{error}"')
        status = EXIT_GROUP
    except (BrokenPipeError, ConnectionResetError):
        # The daemon is gone; the pool host ends all of us.
        status = 0
    except BaseException as error:
        logline.report_exception(LOG_NAME, error)
    finally:
        os._exit(status)


def go_on(state: Json) -> NoReturn:
    """Be the worker again that has started again. Never returns."""
    status = EXIT_BROKEN
    try:
        held = again.resume(state)
        words = memoryview(held.board.page()).cast("Q")
        worker = Worker(held.sock, words, held.nid, confined=False)
        worker.restore(held)
        worker.serve()
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


class Worker:
    """Serves frames. One chunk at a time, in the order in which they come."""

    def __init__(
        self,
        sock: socket.socket,
        words: memoryview,
        nid: int = NUMA_NO_NODE,
        *,
        confined: bool = True,
        board: Board | None = None,
    ) -> None:
        """Hold the two lines to the daemon, and know which node is our own.

        `confined`: it has given up what only code of its own user may need.
        """
        self._confined = confined
        self._board = board
        self._at_hand: list[bytes] = []
        """Frames that were received and are not answered, where a worker may start again."""
        self._sock = sock
        self._own_nid = self._memory_nid = nid
        self._words = words
        self.send = sock.send
        self._buffer = bytearray(FRAME_BYTES_MAX)
        self._known = Known()
        self._function = ""
        self._undo_fault = self._fault if faults.ON else None
        self._control = ChunkControl(words, sock.send, sock.fileno())
        if faults.ON:
            self._control = FaultyControl(words, sock.send, sock.fileno(), self._fault)

    def serve(self) -> None:
        """Answer frames until the other side closes, or become another program that does."""
        while True:
            try:
                return self._serve()
            except start.StartAgain as why:
                self._start_again(why)

    def restore(self, held: Held) -> None:
        """Know what was known before it started again, and answer what was not answered."""
        self._known.restore(held.known)
        self._on_frames(list(held.frames))

    def _start_again(self, why: start.StartAgain) -> None:
        """Become another program; where that cannot be, the job at hand fails and says why."""
        frames_left = self._at_hand
        try:
            if self._board is None:
                raise OSError(errno.EOPNOTSUPP, "this worker cannot start again")
            known, fds = self._known.to_json()
            held = Held(self._sock, self._board, self._own_nid, known, frames_left, fds)
            again.begin(held, why.command, why.environ)
        except OSError as error:
            start.note_refused(error.strerror or str(error))
        bodies.wipe_all()
        self._on_frames(frames_left)

    def _serve(self) -> None:
        buffer = self._buffer
        buffers, view = [buffer], memoryview(buffer)
        receive, on_chunk = self._sock.recvmsg_into, self._on_chunk
        while True:
            # recv would be a little faster, and lose the descriptors.
            count, ancillary, flags, _ = receive(buffers, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            if not count:
                return
            if buffer[0] == CHUNK and not ancillary:
                frame = bytes(view[:count])
                self._at_hand = [frame]
                on_chunk(*frames.unpack_chunk(frame))
            elif buffer[0] == BATCH and not ancillary:
                self._on_frames(frames.unpack_batch(bytes(view[:count])))
            else:
                frame = bytes(view[:count])
                self._at_hand = [frame]
                self._on_note(frame, _descriptors(ancillary), flags)

    def _on_frames(self, batch: list[bytes]) -> None:
        for i, frame in enumerate(batch):
            self._at_hand = batch[i:]
            if frame[0] == CHUNK:
                self._on_chunk(*frames.unpack_chunk(frame))
            else:
                self._on_note(frame, [], 0)

    def _on_chunk(self, seq: int, jno: int, start: int, end: int, nid: int) -> None:
        """Process one chunk and answer it."""
        if nid != self._memory_nid:
            self._move_memory(nid)
        if faults.ON:
            self._begin_faults(jno, "worker.before_ack")
        words = self._words
        # In this order: where the seq is this one, the position is too.
        words[SLOT_POSITION] = start
        words[SLOT_SEQ] = seq
        if words[SLOT_RECALL] >= seq:
            self.send(pack_done(seq, start, 0, b""))
            return
        before = time.thread_time_ns()
        self._control.begin(seq)
        job = None
        try:
            job = self._known.jobs.get(jno) or self._known.job(jno)
            self._control.room = job.room
            reached, value = job.body.run(job.context, start, end, self._control)
            part = b"" if value is None else _encoded(value)
        except Exception as error:
            self._send_failed_chunk(seq, job, start, end, explained(error, job), before)
            return
        frame = pack_done(seq, reached, time.thread_time_ns() - before, part)
        if faults.ON:
            self._fault("worker.after_work")
            frame = frame[: len(frame) // 2] if self._fault("worker.half_frame") else frame
        self.send(frame)

    def _move_memory(self, nid: int) -> None:
        """Let new pages come from a node, or as at first for NUMA_NO_NODE.

        A lead runs where its client does, and a helper may help another node: what
        they touch first belongs where the range says all the same.
        """
        wanted = self._own_nid if nid == NUMA_NO_NODE else nid
        self._memory_nid = nid
        with contextlib.suppress(OSError):  # what cannot be had is told once, at the start
            if wanted == NUMA_NO_NODE:
                mempolicy.apply_default()
            else:
                mempolicy.apply_preferred(wanted)

    def _begin_faults(self, jno: int, point: str) -> None:
        """From here on all fault points are those of this job's function."""
        job = self._known.jobs.get(jno)
        self._function = job.declaration.name if job is not None else ""
        self._fault(point)

    def _fault(self, point: str) -> bool:
        """Where a test may let this worker misbehave; True = cut the frame in half."""
        return faults.hit(point, self._function)

    def _send_failed_chunk(
        self, seq: int, job: Job | None, start: int, end: int, error: Exception, before: int
    ) -> None:
        """Clean the chunk up as far as can be, then say how it failed."""
        reached = min(max(self._words[SLOT_POSITION], start), end)
        dirty = self._clean(job, start, reached) if job is not None else []
        dirty += _elsewhere(error)
        body = _failure(error, before, own=job is not None and job.declaration.own)
        self.send(pack_note(frames.FAILED, seq, {**body, "reached": reached, "dirty": dirty}))

    def _clean(self, job: Job, start: int, reached: int) -> list[list[int]]:
        """Undo a chunk that failed; returns what it may have left changed."""
        if start >= reached:
            return []
        if not job.declaration.undo:
            return [[start, reached]] if job.declaration.writes_bytes else []
        self._words[SLOT_UNDOING] = self._words[SLOT_SEQ]
        control = UndoControl(self._words, publish=False, fault=self._undo_fault)
        try:
            kept = job.body.undo(job.context, start, reached, self._control.holes, control)
        except Exception as error:
            logline.report_exception(LOG_NAME, error)
            return [[start, reached]]
        return [[first, after] for first, after in kept]

    def _on_note(self, frame: bytes, fds: list[int], flags: int) -> None:
        """Take any other frame; owns `fds`."""
        try:
            if flags & socket.MSG_TRUNC:
                raise frames.FrameInvalid(f"frame longer than {FRAME_BYTES_MAX} bytes")
            note = frames.unpack_note(frame)
            if note.kind == frames.SOURCE:
                self._on_source(note, fds)
            elif note.kind == frames.JOB:
                self._on_job(note)
            elif note.kind == frames.CALL:
                self._on_call(note.number, note.body)
            elif note.kind == frames.FORGET_JOB:
                self._forget_job(note.number)
            elif note.kind == frames.FORGET_SOURCE:
                self._known.forget_source(note.number)
            elif note.kind == frames.WIPE:
                self._wipe()
            elif note.kind != frames.NUDGE:
                raise frames.FrameInvalid(f"frame kind {note.kind}: not for workers")
        finally:
            for fd in fds:
                os.close(fd)

    def _on_job(self, note: frames.Note) -> None:
        """Learn of a job; what its code does not need is given up before."""
        declaration = CATALOGUE.get(note.body.get("function", ""))
        if not self._confined and not (declaration is not None and declaration.own):
            self._confined = True
            setup.confine_late()
        self._known.add_job(note.number, note.body)

    def _forget_job(self, jno: int) -> None:
        self._known.forget_job(jno)
        if self._memory_nid not in (NUMA_NO_NODE, self._own_nid):
            self._move_memory(NUMA_NO_NODE)

    def _wipe(self) -> None:
        """Keep nothing of the jobs so far; between chunks, so nothing is in use."""
        self._known.forget_all()
        self._control.begin(0)
        bodies.wipe_all()
        quanta.wipe(self._buffer)

    def _on_source(self, note: frames.Note, fds: list[int]) -> None:
        """Keep a source; one whose descriptor did not fit in here is not known, so its jobs fail."""
        self._known.forget_source(note.number)
        if len(fds) == 1:
            facts = facts_from_json(note.body["facts"])
            self._known.add_source(note.number, Source(fds.pop(), facts))

    def _on_call(self, seq: int, body: Json) -> None:
        """Do what is done once per job, and answer it."""
        self._begin_faults(body["jno"], "worker.before_ack")
        self._words[SLOT_POSITION] = 0
        self._words[SLOT_SEQ] = seq
        before = time.thread_time_ns()
        payload, job = body["payload"], None
        try:
            job = self._known.job(body["jno"])
            self._fault(f"worker.in_{body['op']}")
            value = _OPERATIONS[body["op"]](self, job, payload)
            frame = pack_note(frames.REPLY, seq, {"cpu_ns": time.thread_time_ns() - before, "value": value})
            if len(frame) > FRAME_BYTES_MAX:
                raise ValueError(f"result of {len(frame)} bytes, wanted at most {FRAME_BYTES_MAX}")
        except Exception as error:
            dirty = [[payload["start"], payload["end"]]] if body["op"] == "undo" else []
            dirty += _elsewhere(error)
            failure = _failure(explained(error, job), before, own=job is not None and job.declaration.own)
            frame = pack_note(frames.FAILED, seq, {**failure, "dirty": dirty})
        self._fault("worker.after_step")
        self.send(frame[: len(frame) // 2] if self._fault("worker.half_frame") else frame)

    def _prepare(self, job: Job, payload: Json) -> Json:
        """Run `prepare`, and `begin` once the daemon was told what that will change."""
        prepared = job.body.prepare(job.context)
        if type(job.body).begin is not Body.begin:
            self.send(pack_note(frames.PLANNED, self._words[SLOT_SEQ], {"value": prepared}))
            self._fault("worker.in_begin")
            job.body.begin(job.context, prepared)
        return prepared

    def _undo(self, job: Job, payload: Json) -> Json:
        """Run `undo` on completed chunks."""
        start, end = payload["start"], payload["end"]
        self._words[SLOT_POSITION] = start
        holes = [(first, after) for first, after in payload["holes"]]
        control = UndoControl(self._words, publish=True, fault=self._undo_fault)
        kept = job.body.undo(job.context, start, end, holes, control)
        return {"kept": [[first, after] for first, after in kept]}

    def _combine(self, job: Job, payload: Json) -> Json:
        """Run `combine`."""
        return job.body.combine(job.context, payload["parts"])

    def _finish(self, job: Job, payload: Json) -> Json:
        """Run `finish`."""
        control = FinishControl(self._words, publish=True, fault=self._undo_fault)
        job.context.combined = payload.get("combined") or {}
        amended = job.body.finish(job.context, payload["prepared"], control)
        return {"result": amended} if amended else {}

    def _restore(self, job: Job, payload: Json) -> Json:
        """Run `restore`."""
        job.body.restore(job.context, payload["prepared"])
        return {}


_OPERATIONS: dict[str, Callable[[Worker, Job, Json], Json]] = {
    "prepare": Worker._prepare,
    "undo": Worker._undo,
    "combine": Worker._combine,
    "finish": Worker._finish,
    "restore": Worker._restore,
}


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """All descriptors that rode along."""
    fds = array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)


def _encoded(value: Json) -> bytes:
    """A chunk's result as bytes; raises ValueError where it is too large for a frame."""
    part = json.dumps(value, separators=(",", ":")).encode()
    if len(part) > PART_BYTES_MAX:
        raise ValueError(f"result of a chunk: got {len(part)} bytes, wanted at most {PART_BYTES_MAX}")
    return part


def _failure(error: Exception, before: int, *, own: bool = False) -> Json:
    """How a call or a chunk failed, in the words of a FAILED frame.

    `own`: the code is the caller's own, who can do something with a traceback.
    """
    said = _said(error)
    words = f"{type(error).__name__}: {said}"[:_MESSAGE_MAX]
    # Whoever raises an OSError may put anything into it.
    number = getattr(error, "errno", 0) if isinstance(error, OSError) else 0
    number = number if isinstance(number, int) and 0 <= number <= _ERRNO_MAX else 0
    message = error.strerror if isinstance(error, OSError) and error.strerror else said
    if own:
        message = words
        words = "".join(traceback.format_exception(error))[-_TRACEBACK_MAX:]
    return {
        "cpu_ns": time.thread_time_ns() - before,
        "reason": error.reason if isinstance(error, Failed) else "",
        "errno": number,
        "exception": words,
        "message": (str(message) or type(error).__name__)[:_MESSAGE_MAX],
    }


def _elsewhere(error: Exception) -> list[list[int]]:
    """What it may have changed outside of the chunk."""
    return [[first, after] for first, after in error.dirty] if isinstance(error, Failed) else []


def _said(error: Exception) -> str:
    """Its text; code that is not ours may not even be able to say what is wrong."""
    try:
        return str(error)
    except Exception as why:
        return f"cannot be put into words: {type(why).__name__}"
