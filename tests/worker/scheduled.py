"""A worker that stands still before each access to the words of its lease, until the test lets it go on.

The code is the product's: `worker.chunks` in a thread of its own, and `pool.instructed` in the test's.
Only the page is the test's, and so is the moment at which the kernel would order the accesses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from ktaskd.functions.body import Body, Context, Control, Json
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.model.function import Declaration
from ktaskd.pool.instructed import Instructed
from ktaskd.pool.outbox import Outbox
from ktaskd.worker import frames
from ktaskd.worker.chunks import Chunks
from ktaskd.worker.faultpoints import FaultPoints
from ktaskd.worker.frames import SLOT_BYTES, SLOT_CLAIM, SLOT_END, SLOT_ORDERED, Done, Lease, LeaseDone, Note
from ktaskd.worker.jobs import Job, Known

QUANTUM, ALIGN = 3, 2
LONGEST = 4
"""Most positions that such a quantum covers once it is rounded up."""
END = 18


class Page:
    """The words of a worker's page; `wait` is called before each access to those of a lease."""

    def __init__(self, words: memoryview, wait: Callable[[], None]) -> None:
        self._words, self._wait = words, wait

    def __getitem__(self, slot: int) -> int:
        if slot in (SLOT_END, SLOT_CLAIM):
            self._wait()
        return int(self._words[slot])

    def __setitem__(self, slot: int, value: int) -> None:
        if slot in (SLOT_END, SLOT_CLAIM):
            self._wait()
        self._words[slot] = value


class Counted(Body):
    """Notes each position that it works on; its result is their number."""

    def __init__(self, step: int = LONGEST) -> None:
        self.step = step
        self.worked: list[int] = []

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        at = start
        while at < end:
            if control.quantum(at):
                return at, {"n": at - start}
            after = min(at - at % self.step + self.step, end)
            self.worked.extend(range(at, after))
            at = after
        control.quantum(end)
        return end, {"n": end - start}


class Wire:
    """Takes the place of the socket: keeps what the worker sends."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes, _fd: int = -1) -> int:
        self.frames.append(frame)
        return len(frame)

    def fileno(self) -> int:
        return -1

    @property
    def answers(self) -> list[Done | LeaseDone | Note]:
        return [
            frames.unpack_done(frame)
            if frame[0] in (frames.DONE, frames.PART, frames.WHOLE)
            else frames.unpack_note(frame)
            for frame in self.frames
        ]


def counted_declaration(quantum: int = QUANTUM, align: int = ALIGN) -> Declaration:
    """The declaration of `Counted`."""
    return replace(CATALOGUE["selftest.noop"], quantum=quantum, align=align)


def chunks_of(words: object, wire: Wire, declaration: Declaration, body: Body, context: Context) -> Chunks:
    """The part of a worker that processes chunks and leases; it knows one job, number 1."""
    known = Known()
    known.jobs[1] = Job(declaration, body, context, {})
    return Chunks(cast(memoryview, words), cast(Any, wire), known, -1, FaultPoints(known))


class Scheduled:
    """A worker with one lease [0, end), and the daemon's side of it."""

    def __init__(self, body: Body | None = None, end: int = END, *, declaration: Declaration | None = None):
        self.words = memoryview(bytearray(SLOT_BYTES)).cast("Q")
        self.words[SLOT_ORDERED] = 1
        self.body = body or Counted()
        self.wire = Wire()
        self.daemon = Instructed(self.words, cast(Outbox, Wire()))
        self.held_end = end
        """The end of the lease by the books of the daemon."""
        self.given: list[int] = []
        """The positions that the daemon has given to others."""
        self.is_over = False
        self._stands, self._goes = threading.Semaphore(0), threading.Semaphore(0)
        context = Context({}, {}, {}, (0, end), False)
        chunks = chunks_of(
            Page(self.words, self._wait), self.wire, declaration or counted_declaration(), self.body, context
        )
        self.daemon.send_lease(1, 0, end)

        def work() -> None:
            chunks.process_lease(Lease(1, 1, 0, end))
            self.is_over = True
            self._stands.release()

        self._thread = threading.Thread(target=work)
        self._thread.start()
        self._stands.acquire()

    def _wait(self) -> None:
        self._stands.release()
        self._goes.acquire()

    def step(self, count: int = 1) -> None:
        """Let the worker do so many accesses, or what is left of them."""
        for _ in range(count):
            if self.is_over:
                return
            self._goes.release()
            self._stands.acquire()

    def finish(self) -> None:
        """Let the worker go on to its end."""
        while not self.is_over:
            self.step()
        self._thread.join()

    def shorten(self, cut: int) -> None:
        """Do as `jobs.leases` does: give everything from where the lease ends now to another worker."""
        if self.is_over or cut >= self.held_end:
            return
        end = self.daemon.shorten(cut)
        if end < self.held_end:
            self.given.extend(range(end, self.held_end))
            self.held_end = end

    def check(self) -> None:
        """Every position is worked on by this worker, given to another, or given back: each by one."""
        *parts, done = self.wire.answers
        assert isinstance(done, Done), done
        assert isinstance(self.body, Counted)
        reached = [0, *(part.reached for part in parts if isinstance(part, LeaseDone)), done.reached]
        assert reached == sorted(reached)
        assert done.reached <= self.held_end, "the daemon would take it for nonsense"
        assert self.body.worked == list(range(done.reached)), "twice, or not reported"
        assert not set(self.body.worked) & set(self.given), "two workers work on it"
