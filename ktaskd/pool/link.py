"""The daemon's line to one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ktaskd.model.limits import FRAME_BYTES_MAX, NUMA_NO_NODE
from ktaskd.model.priority import Priority
from ktaskd.model.worker import Applied, WorkerClass, WorkerState
from ktaskd.worker import frames, messages
from ktaskd.worker.frames import Done, FrameInvalid, Op
from ktaskd.worker.messages import Ready, Report

STATUS_WAIT_S = 1.0
"""How long a seen death waits for the pool host to tell the exit status."""

_READS_PER_WAKE = 64
_BYTES_PER_WAKE = 64 * 1024
"""Frames, and bytes of frames, taken from one worker before the others get their turn."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended, and what it had begun.

    Args:
        status: as of waitpid; None if nobody could tell.
        seq: the last chunk it had begun; 0 if none.
        position: how far it said it was in that chunk.
        why: what it was killed for, in words; "" = not by us, or for no fault.
        undoing: whether that chunk had failed, and it was undoing it.
    """

    status: int | None
    seq: int
    position: int
    why: str = ""
    undoing: bool = False

    @property
    def signal(self) -> int:
        """The signal that killed it; 0 if none or not known."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else 0

    @property
    def by_itself(self) -> bool:
        """Whether it was its own doing, as far as can be told: killed for a fault, or not killed."""
        return bool(self.why) or (self.status is not None and self.signal != signal.SIGKILL)

    def __str__(self) -> str:
        """In words: "killed by SIGSEGV", "exit status 70"."""
        if self.why:
            return self.why
        if self.status is None:
            return "died, nobody could tell how"
        if self.signal:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(self.signal).name}"
            return f"killed by signal {self.signal}"
        return f"exit status {os.WEXITSTATUS(self.status)}"


class Listener(Protocol):
    """Who is told what workers do. Calls come from the event loop, one at a time."""

    def on_ready(self, worker: Worker) -> None:
        """The worker has set itself up and may be given work."""

    def on_done(self, worker: Worker, done: Done) -> None:
        """A chunk was processed, or given back from `done.reached` on."""

    def on_report(self, worker: Worker, report: Report) -> None:
        """The worker reports something of its chunk or step, or that one is over."""

    def on_dead(self, worker: Worker, death: Death) -> None:
        """The process is dead, and so is all that foreign code in it has started.

        None of it touches anything any more. All the worker's frames were reported before.
        """


class Worker:
    """One worker process, from its start to its seen death.

    Args:
        cpu: the CPU it is pinned to; -1 for a lead.
        nid: its node; -1 for a lead.
        slot: its page of the shared board, as 8-byte words.
    """

    base = priority = Priority()
    """What it had when it was started, and what it has now, as a lead for its caller."""
    own_missing: tuple[str, ...] = ()
    """What could not be applied when it was started."""
    resting = False
    """Whether it sleeps in its chunk until something comes for it."""

    def __init__(
        self,
        worker_id: int,
        worker_class: WorkerClass,
        nid: int,
        cpu: int,
        slot: memoryview,
        listener: Listener,
        gone: Callable[[Worker, Death], None],
        idle: Callable[[], None] = lambda: None,
        raise_: Callable[[int], object] = lambda _: None,
    ) -> None:
        """A worker that the pool host was asked for.

        Args:
            gone: told of its death after everybody else.
            idle: told each time that it has nothing in hand any more.
            raise_: lets the process of this pid run at normal priority.
        """
        self.id = worker_id
        self.worker_class = worker_class
        self.nid = nid
        self.cpu = cpu
        self.slot = slot
        self.pid = 0
        self.idle_since_s = 0.0
        """When it last became idle, by the loop's clock."""
        self.retired = False
        """Whether it was told to end because nobody needed it, or nobody else may have it."""
        self.tainted = False
        """Whether it has got code that is not ours, and so ends with its job."""
        self._state = WorkerState.STARTING
        self._idle = idle
        self._raise = raise_
        self._killed = self._is_dead = self._ended = False
        self.applied = Applied()
        self.started_s = 0.0
        self.sids: set[int] = set()
        self.jnos: dict[int, frozenset[int]] = {}
        """Jobs that it was told of, each with the sids that it needs to its end."""
        self.memory_group = ""
        """Directory of the memory cgroup of a caller that it works in; "" = ours."""
        self._served: int | None = None  # the user whose jobs it was told of last
        self._listener = listener
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._pidfd = -1
        self._seq = 0
        self._unsent: deque[tuple[bytes, int]] = deque()
        self._with_next: list[bytes] = []
        self._why, self._status_final = "", False
        self._status: int | None = None
        self._dead_timer: asyncio.TimerHandle | None = None

    @property
    def is_lead(self) -> bool:
        """Whether it runs at normal priority, for a caller that waits."""
        return self.worker_class is WorkerClass.LEAD

    def has_priority_for(self, caller: Priority) -> bool:
        """Whether its priority is the one of a lead that stands in for such a caller."""
        return self.priority == caller.standing_in(self.base)

    @property
    def is_dying(self) -> bool:
        """Whether it was killed or is dead: by its pid nothing may be done any more."""
        return self._killed or self._is_dead or self._ended

    # -- life ---------------------------------------------------------------

    @property
    def state(self) -> WorkerState:
        """Where it is in its life."""
        return self._state

    @state.setter
    def state(self, state: WorkerState) -> None:
        was, self._state = self._state, state
        if state is WorkerState.IDLE is not was:
            self.idle_since_s = self._loop.time()
            self._idle()

    def attach(self, pid: int, sock: socket.socket, pidfd: int) -> None:
        """Take over the socket and the pidfd of the process that was forked."""
        self.pid, self._sock, self._pidfd = pid, sock, pidfd
        self.started_s = self._loop.time()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._on_readable)
        self._loop.add_reader(pidfd, self._on_pidfd)
        if self.state is WorkerState.STOPPING:
            self._close_socket()  # nobody wants it any more; it sees end of file

    def kill(self, why: str = "") -> None:
        """Send SIGKILL. `on_dead` follows once the process is seen dead.

        `why`: what it did wrong, in words; its work counts as having killed it.
        """
        self._why = self._why or why
        if self._pidfd >= 0:
            first, self._killed = not self._killed, True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                # Only now is it known that the pid is still its own.
                if first:
                    # To die takes CPU time, which a starved process does not get.
                    self._raise(self.pid)

    def resume(self) -> None:
        """Let it go on where somebody has stopped it (SIGSTOP)."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def set_exit_status(self, status: int | None) -> None:
        """What the pool host learnt from waitpid; None = it can tell no more."""
        if not self._status_final:
            self._status, self._status_final = status, True
        if self._dead_timer is not None or self._is_dead or self._pidfd < 0:
            self._finish_death()

    def _on_pidfd(self) -> None:
        # First: a death is told once, whatever comes of the frames.
        self._loop.remove_reader(self._pidfd)
        self._is_dead = True
        try:
            # Those that were sent before the death count.
            self._on_readable(limit=1 << 30)
        finally:
            if self._status_final:
                self._finish_death()
            elif not self._ended and not self.tainted:
                # Of one that ran code that is not ours the host reports when all it started is gone.
                self._dead_timer = self._loop.call_later(STATUS_WAIT_S, self._finish_death)

    def _finish_death(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._dead_timer is not None:
            self._dead_timer.cancel()
        self._close()
        slot = self.slot
        seq = slot[frames.SLOT_SEQ]
        undoing = slot[frames.SLOT_UNDOING] == seq > 0
        death = Death(self._status, seq, slot[frames.SLOT_POSITION], self._why, undoing)
        self._gone(self, death)

    def _close(self) -> None:
        self._close_socket()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _close_socket(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
        for _, fd in self._unsent:
            if fd >= 0:
                os.close(fd)
        self._unsent.clear()

    def stop(self) -> None:
        """Let it end by itself: it sees end of file after what it was sent."""
        self.state = WorkerState.STOPPING
        self._close_socket()

    def retire(self) -> None:
        """The same, and another one may have its place."""
        self.retired = True
        self.stop()

    def taint(self) -> None:
        """Note that it gets code that is not ours."""
        self.tainted = True

    def ends_with_its_job(self) -> bool:
        """Whether it ends now that its job has nothing more for it: it has run code that is not ours."""
        if self.tainted:
            self.retire()
        return self.tainted

    # -- what it says ---------------------------------------------------------

    def _on_readable(self, limit: int = _READS_PER_WAKE) -> None:
        read = 0
        for _ in range(limit):
            if self._sock is None or (read > _BYTES_PER_WAKE and limit == _READS_PER_WAKE):
                return
            try:
                frame = self._sock.recv(FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                frame = b""
            if not frame:
                self._close_socket()
                # One that closed its line and lives on would keep its chunk for ever.
                self.kill()
                return
            read += len(frame)
            self._on_frame(frame)

    def _on_frame(self, frame: bytes) -> None:
        try:
            message = messages.parse(frame)
        except FrameInvalid as error:
            # Memory of a process that sends nonsense is not to be trusted.
            self.kill(f"sent nonsense ({error})")
            return
        if isinstance(message, Done):
            self._listener.on_done(self, message)
        elif isinstance(message, Ready):
            self.applied = message.applied
            self.base = self.priority = self.applied.priority
            self.own_missing = self.applied.missing
            self.state = WorkerState.IDLE
            self._listener.on_ready(self)
        else:
            self._listener.on_report(self, message)

    @property
    def position(self) -> tuple[int, int]:
        """The chunk it says it works on and how far it is: (seq, position)."""
        return self.slot[frames.SLOT_SEQ], self.slot[frames.SLOT_POSITION]

    @property
    def beats(self) -> int:
        """Quanta worked since it started; stands still while it is starved or hangs."""
        beats: int = self.slot[frames.SLOT_BEATS]
        return beats

    # -- what it is told --------------------------------------------------------

    def serves(self, uid: int) -> bool:
        """Whether nothing of another user is in it."""
        return self._served in (uid, None)

    def turn_to(self, uid: int) -> None:
        """Work for this user from now on: what it has of another one is forgotten and erased first.

        To be called while it has nothing in hand.
        """
        if not self.serves(uid):
            self.sids.clear()
            self.jnos.clear()
            self._with_next.clear()  # of the other user, and needless now
            self._send_with_next(frames.pack_note(frames.WIPE, 0))
        self._served = uid

    def send_source(self, sid: int, body: dict[str, Any], fd: int) -> None:
        """Give it a source, unless it has it; the fd stays the caller's."""
        if sid not in self.sids:
            self.sids.add(sid)
            self._send(frames.pack_note(frames.SOURCE, sid, body), fd)

    def forget_source(self, sid: int) -> None:
        """Let it unmap and close a source."""
        if sid in self.sids:
            self.sids.remove(sid)
            self._send(frames.pack_note(frames.FORGET_SOURCE, sid))

    def forget_item(self, sid: int) -> None:
        """Let it close a source that one chunk needed, unless a job needs it too."""
        if not any(sid in sids for sids in self.jnos.values()):
            self.forget_source(sid)

    def send_job(self, jno: int, body: dict[str, Any]) -> None:
        """Tell it what a job is, or add items to one it knows."""
        if jno not in self.jnos:
            self.jnos[jno] = frozenset(body.get("sources", {}).values())
        self._send_with_next(frames.pack_note(frames.JOB, jno, body))

    def forget_job(self, jno: int) -> None:
        """Let it drop a job."""
        if jno in self.jnos:
            del self.jnos[jno]
            self._send_with_next(frames.pack_note(frames.FORGET_JOB, jno))

    def send_chunk(
        self, jno: int, start: int, end: int, *, nid: int = NUMA_NO_NODE, more: bool = False
    ) -> int:
        """Give it a chunk; answers the seq that its DONE or FAILED will carry.

        `more`: another one follows at once, and both go in one datagram. `nid`:
        where its new pages go, whichever node this worker is of.
        """
        self._seq += 1
        frame = frames.pack_chunk(self._seq, jno, start, end, nid)
        if more:
            self._send_with_next(frame)
        else:
            self._send(frame)
        return self._seq

    def send_call(self, jno: int, op: Op, payload: dict[str, Any]) -> int:
        """Ask for prepare, undo, combine, finish or restore; answers the seq."""
        self._seq += 1
        self._send(frames.pack_note(frames.STEP, self._seq, {"jno": jno, "op": op, "payload": payload}))
        return self._seq

    def recall(self) -> None:
        """Ask for the rest of every chunk sent so far."""
        self.slot[frames.SLOT_RECALL] = self._seq
        if self.resting:
            self._send(frames.pack_note(frames.NUDGE, 0))

    def note_rest(self, *, resting: bool) -> None:
        """It sleeps in its chunk, or works on; one that was recalled meanwhile is woken."""
        self.resting = resting
        if resting and self.slot[frames.SLOT_RECALL] >= self._seq:
            self._send(frames.pack_note(frames.NUDGE, 0))

    def _send_with_next(self, frame: bytes) -> None:
        """Keep a frame that means nothing before the next one: each send is a wake-up."""
        self._with_next.append(frame)
        if sum(map(len, self._with_next)) > FRAME_BYTES_MAX // 4:
            self._send(self._with_next.pop())

    def _send(self, frame: bytes, fd: int = -1) -> None:
        if self._sock is None:
            return  # it is dying: `on_dead` tells what became of its chunks
        if self._with_next:
            kept, self._with_next = self._with_next, []
            fits = fd < 0 and sum(map(len, kept)) + len(frame) < FRAME_BYTES_MAX - 1024
            if fits:
                frame = frames.pack_batch([*kept, frame])
            else:
                self._send(frames.pack_batch(kept))
        if not self._unsent and self._try_send(frame, fd):
            return
        if not self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
        self._unsent.append((frame, os.dup(fd) if fd >= 0 else -1))

    def _try_send(self, frame: bytes, fd: int) -> bool:
        assert self._sock is not None
        try:
            if fd >= 0:
                socket.send_fds(self._sock, [frame], [fd])
            else:
                self._sock.send(frame)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.EMSGSIZE, errno.ETOOMANYREFS):
                self.kill(f"could not be sent {len(frame)} bytes: {error.strerror}")
            # Else it is dying already, see _send.
        return True

    def _on_writable(self) -> None:
        while self._unsent and self._sock is not None:
            frame, fd = self._unsent[0]
            if not self._try_send(frame, fd):
                return
            self._unsent.popleft()
            if fd >= 0:
                os.close(fd)
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
