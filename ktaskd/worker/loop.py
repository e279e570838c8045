"""A worker's loop: receive one frame after the other and answer it."""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
from array import array
from collections.abc import Callable, Mapping

from ktask.v1 import start

from ktaskd.functions import bodies, quanta
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.host.sockets.unixsock import FDS_PER_MESSAGE_MAX
from ktaskd.model.limits import FRAME_BYTES_MAX, NUMA_NO_NODE
from ktaskd.model.source import SourceFacts
from ktaskd.worker import frames, restart, setup
from ktaskd.worker.chunks import Chunks
from ktaskd.worker.codec import facts_from_json
from ktaskd.worker.faultpoints import FaultPoints
from ktaskd.worker.frames import BATCH, CHUNK, LEASE
from ktaskd.worker.jobs import Known
from ktaskd.worker.mapped import IDLE_S
from ktaskd.worker.restart import Board, Held
from ktaskd.worker.sources import Source
from ktaskd.worker.steps import Steps

_ANCILLARY = socket.CMSG_SPACE(FDS_PER_MESSAGE_MAX * array("i").itemsize)
_TIMEVAL = struct.Struct("@ll")
"""Source: socket(7), SO_RCVTIMEO; struct timeval"""


class Worker:
    """Serves frames. One chunk at a time, in the order in which they arrive."""

    def __init__(
        self,
        sock: socket.socket,
        words: memoryview,
        nid: int = NUMA_NO_NODE,
        *,
        confined: bool = True,
        board: Board | None = None,
    ) -> None:
        """Keep the socket and the shared page.

        Args:
            nid: the worker's own node.
            confined: it has given up what only code of its own user may need.
            board: where the page is, for a worker that may have to restart.
        """
        self._confined = confined
        self._board = board
        self._at_hand: list[bytes] = []
        """Frames that were received and are not answered; a restarted worker answers them."""
        self._sock = sock
        self._nid = nid
        self.send = sock.send
        self._buffer = bytearray(FRAME_BYTES_MAX)
        self._known = Known()
        self._patient = False
        """Whether a receive ends after IDLE_S."""
        points = FaultPoints(self._known)
        self._chunks = Chunks(words, sock, self._known, nid, points)
        self._steps = Steps(words, sock.send, self._known, points)
        self._with_fds = {frames.SOURCE: self._on_source, frames.ITEMS: self._on_items}
        self._handlers: Mapping[int, Callable[[frames.Note], None]] = {
            frames.JOB: self._on_job,
            frames.STEP: lambda note: self._steps.answer(note.number, note.body),
            frames.FORGET_JOB: lambda note: self._forget_job(note.number),
            frames.FORGET_SOURCE: lambda note: self._known.forget_source(note.number),
            frames.FORGET_SOURCES: self._forget_sources,
            frames.WIPE: lambda _: self._wipe(),
            frames.NUDGE: lambda _: None,
        }

    def serve(self) -> None:
        """Answer frames until the other side closes, or become another program that does."""
        while True:
            try:
                return self._serve()
            except start.StartAgain as why:
                self._restart(why)

    def restore(self, held: Held) -> None:
        """Take over what was known before the restart, and answer the frames that were left."""
        self._known.restore(held.known)
        self._on_frames(list(held.frames))

    def _restart(self, why: start.StartAgain) -> None:
        """Become another program; if that is impossible, the job at hand fails with the reason."""
        frames_left = self._at_hand
        try:
            if self._board is None:
                raise OSError(errno.EOPNOTSUPP, "this worker cannot start again")
            known, fds = self._known.to_json()
            held = Held(self._sock, self._board, self._nid, known, frames_left, fds)
            restart.begin(held, why.command, why.environ)
        except OSError as error:
            start.note_refused(error.strerror or str(error))
        bodies.wipe_all()
        self._on_frames(frames_left)

    def _serve(self) -> None:
        buffer = self._buffer
        buffers, view = [buffer], memoryview(buffer)
        receive, process = self._sock.recvmsg_into, self._chunks.process
        while True:
            # recv would be a little faster, but would lose the descriptors.
            try:
                count, ancillary, flags, _ = receive(buffers, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                self._known.rest()
                self._set_patience(0)
                continue
            if not count:
                return
            if buffer[0] == CHUNK and not ancillary:
                frame = bytes(view[:count])
                self._at_hand = [frame]
                process(*frames.unpack_chunk(frame))
            elif buffer[0] == LEASE and not ancillary:
                frame = bytes(view[:count])
                self._at_hand = [frame]
                self._chunks.process_lease(frames.unpack_lease(frame))
            elif buffer[0] == BATCH and not ancillary:
                self._on_frames(frames.unpack_batch(bytes(view[:count])))
            else:
                frame = bytes(view[:count])
                self._at_hand = [frame]
                self._on_note(frame, _descriptors(ancillary), flags)
            if self._known.mapped and not self._patient:
                self._set_patience(IDLE_S)

    def _set_patience(self, seconds: float) -> None:
        """Have the next receives end after this long without a frame; 0 = never."""
        self._patient = seconds > 0
        whole = int(seconds)
        time_limit = _TIMEVAL.pack(whole, int((seconds - whole) * 1e6))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time_limit)

    def _on_frames(self, batch: list[bytes]) -> None:
        for i, frame in enumerate(batch):
            self._at_hand = batch[i:]
            if frame[0] == CHUNK:
                self._chunks.process(*frames.unpack_chunk(frame))
            elif frame[0] == LEASE:
                self._chunks.process_lease(frames.unpack_lease(frame))
            else:
                self._on_note(frame, [], 0)

    def _on_note(self, frame: bytes, fds: list[int], flags: int) -> None:
        """Take any other frame; owns `fds`."""
        try:
            if flags & socket.MSG_TRUNC:
                raise frames.FrameInvalid(f"frame longer than {FRAME_BYTES_MAX} bytes")
            note = frames.unpack_note(frame)
            if note.kind in (frames.SOURCE, frames.ITEMS):
                self._with_fds[note.kind](note, fds)
                return
            handler = self._handlers.get(note.kind)
            if handler is None:
                raise frames.FrameInvalid(f"frame kind {note.kind}: not for workers")
            handler(note)
        finally:
            for fd in fds:
                os.close(fd)

    def _on_job(self, note: frames.Note) -> None:
        """Add a job; before that, give up what its code does not need."""
        declaration = CATALOGUE.get(note.body.get("function", ""))
        if not self._confined and not (declaration is not None and declaration.own):
            self._confined = True
            setup.confine_late()
        self._known.add_job(note.number, note.body)

    def _forget_job(self, jno: int) -> None:
        self._known.forget_job(jno)
        self._chunks.return_memory()

    def _forget_sources(self, note: frames.Note) -> None:
        for sid in note.body["sids"]:
            self._known.forget_source(sid)

    def _wipe(self) -> None:
        """Keep nothing of the jobs so far; comes between chunks, so nothing is in use."""
        self._known.forget_all()
        self._chunks.forget()
        bodies.wipe_all()
        quanta.wipe(self._buffer)
        # A failed job leaves its exception and its frames in a cycle, which would keep its arguments.
        gc.collect()

    def _on_source(self, note: frames.Note, fds: list[int]) -> None:
        """Keep a source; jobs of a source without its descriptor fail when they use it."""
        self._known.forget_source(note.number)
        if len(fds) == 1:
            facts = facts_from_json(note.body["facts"])
            self._known.add_source(note.number, Source(fds.pop(), facts))

    def _on_items(self, note: frames.Note, fds: list[int]) -> None:
        """Keep the sources of a chunk's items; the chunk fails if a descriptor of them was lost."""
        new = note.body["new"]
        for sid, _ in new:
            self._known.forget_source(sid)
        if len(fds) == len(new):
            for sid, row in new:
                facts = SourceFacts.of_row(row)
                self._known.add_source(sid, Source(fds.pop(0), facts))
        self._known.set_items(note.number, note.body["start"], note.body["sids"])


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """All descriptors that came with a frame."""
    fds = array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)
