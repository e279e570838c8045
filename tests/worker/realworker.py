"""A real worker process at the other end of a real socket pair.

Run as a program, this module is that worker, started by exec like a pool host.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ktaskd.host.memory import erasing
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.model.source import SourceFacts
from ktaskd.model.worker import Placement, WorkerClass
from ktaskd.worker import frames, life
from ktaskd.worker.codec import facts_to_json
from ktaskd.worker.frames import SLOT_BEATS, SLOT_POSITION, SLOT_RECALL, SLOT_SEQ, Done, LeaseDone, Note

PATIENCE_S = 60.0
"""Time after which a test that cannot pass gives up."""

REPOSITORY = Path(__file__).resolve().parents[2]


class RealWorker:
    """The daemon's side of one worker."""

    def __init__(self, placement: dict[str, Any], *, autogroup: int | None = None) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE_S)
        board = os.memfd_create("board")
        os.ftruncate(board, frames.SLOT_BYTES)
        self._page = mmap.mmap(board, frames.SLOT_BYTES)
        self.slot = memoryview(self._page).cast("Q")
        words = [str(theirs.fileno()), str(board), json.dumps(placement), json.dumps(autogroup)]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.worker.realworker", *words],
                pass_fds=(theirs.fileno(), board),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **erasing.ENVIRONMENT},
                start_new_session=autogroup is not None,
            )
        os.close(board)

    def close(self) -> None:
        self.sock.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_S if self.process.returncode is None else 0)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.slot.release()
        self._page.close()

    def receive(self) -> Done | LeaseDone | Note:
        frame = self.sock.recv(FRAME_BYTES_MAX)
        done = frame[0] in (frames.DONE, frames.PART, frames.WHOLE)
        return frames.unpack_done(frame) if done else frames.unpack_note(frame)

    def done(self) -> Done:
        frame = self.receive()
        assert isinstance(frame, Done), frame
        return frame

    def note(self, kind: int) -> Note:
        frame = self.receive()
        assert isinstance(frame, Note), frame
        assert frame.kind == kind, frame
        return frame

    def source(self, sid: int, fd: int, facts: SourceFacts) -> None:
        frame = frames.pack_note(frames.SOURCE, sid, {"facts": facts_to_json(facts)})
        socket.send_fds(self.sock, [frame], [fd])

    def job(
        self,
        jno: int,
        function: str,
        arg: dict[str, Any] | None = None,
        sources: dict[str, int] | None = None,
        span: tuple[int, int] = (0, 100),
        whole: bool = False,
    ) -> None:
        body = {
            "function": function,
            "arg": arg or {},
            "sources": sources or {},
            "span": span,
            "whole": whole,
        }
        self.sock.send(frames.pack_note(frames.JOB, jno, body))

    def items(self, jno: int, start: int, sids: list[int]) -> None:
        """Send the items of the next chunk, whose sources the worker has."""
        body = {"start": start, "sids": sids, "new": []}
        self.sock.send(frames.pack_note(frames.ITEMS, jno, body))

    def chunk(self, seq: int, jno: int, start: int, end: int, nid: int = -1) -> None:
        self.sock.send(frames.pack_chunk(seq, jno, start, end, nid))

    def step(self, seq: int, jno: int, op: str, payload: dict[str, Any] | None = None) -> None:
        body = {"jno": jno, "op": op, "payload": payload or {}}
        self.sock.send(frames.pack_note(frames.STEP, seq, body))

    def recall(self, seq: int) -> None:
        self.slot[SLOT_RECALL] = seq

    @property
    def seq(self) -> int:
        return int(self.slot[SLOT_SEQ])

    @property
    def position(self) -> int:
        return int(self.slot[SLOT_POSITION])

    @property
    def beats(self) -> int:
        return int(self.slot[SLOT_BEATS])

    def fds(self) -> set[str]:
        """The worker's open files."""
        found = set()
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(f"{entry.name} {entry.readlink()}")
        return found


def wait_until(reached: Callable[[], bool]) -> None:
    """Wait until another process has done something."""
    until = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < until, "it never happened"
        os.sched_yield()


@contextlib.contextmanager
def started(placement: dict[str, Any] | None = None, *, autogroup: int | None = None) -> Iterator[RealWorker]:
    """A worker that has just started."""
    worker = RealWorker(placement or {"worker_class": "lead"}, autogroup=autogroup)
    try:
        yield worker
    finally:
        worker.close()


@contextlib.contextmanager
def ready(placement: dict[str, Any] | None = None) -> Iterator[RealWorker]:
    """A worker that has sent READY."""
    with started(placement) as worker:
        worker.note(frames.READY)
        yield worker


def main(words: list[str]) -> None:
    """Be a worker."""
    fields = json.loads(words[2])
    fields["worker_class"] = WorkerClass(fields["worker_class"])
    fields["cpus"] = frozenset(fields.get("cpus", ()))
    if json.loads(words[3]) is not None:
        from ktaskd.host.scheduling import sched

        with contextlib.suppress(OSError):
            sched.set_own_autogroup_nice(json.loads(words[3]))
    page = mmap.mmap(int(words[1]), frames.SLOT_BYTES)
    os.close(int(words[1]))
    sock = socket.socket(fileno=int(words[0]))
    life.run(sock, memoryview(page), Placement(**fields))


if __name__ == "__main__":
    main(sys.argv[1:])
