"""The daemon's connection to one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.model.priority import Priority
from ktaskd.model.worker import Applied, WorkerClass, WorkerState
from ktaskd.pool.death import Death
from ktaskd.pool.instructed import Instructed
from ktaskd.pool.outbox import Outbox
from ktaskd.pool.seat import Seat
from ktaskd.worker import frames, messages
from ktaskd.worker.frames import Done, FrameInvalid
from ktaskd.worker.messages import Ready, Report

STATUS_WAIT_S = 1.0
"""Seconds for which a death waits until the pool host has reported the exit status."""

_READS_PER_WAKE = 64
_BYTES_PER_WAKE = 64 * 1024
"""Most frames, and bytes of frames, read from one worker before the event loop goes on."""


class Listener(Protocol):
    """Receives the events of workers. Calls come from the event loop, one at a time."""

    def on_ready(self, worker: Worker) -> None:
        """The worker has set itself up and can be given work."""

    def on_done(self, worker: Worker, done: Done) -> None:
        """A chunk was processed; the part from `done.reached` on was given back."""

    def on_report(self, worker: Worker, report: Report) -> None:
        """The worker sent a report about its chunk or step, or about its end."""

    def on_dead(self, worker: Worker, death: Death) -> None:
        """The process is dead, and so are all processes that foreign code in it has started.

        None of them touches anything any more. All frames of the worker were reported before.
        """


def _ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class WorkerHooks:
    """Calls from a worker to its pool.

    Args:
        gone: called with its death, which the pool then reports to the listener.
        idle: called each time that it has nothing in hand any more.
        raise_: lets the process of this pid run at normal priority.
    """

    gone: Callable[[Worker, Death], None]
    idle: Callable[[], None] = _ignore
    raise_: Callable[[int], object] = _ignore


class Worker(Instructed):
    """One worker process, from its start until its death is seen."""

    base = priority = Priority()
    """Its priority after the start, and its priority now, as a lead for its caller."""
    own_missing: tuple[str, ...] = ()
    """Settings that could not be applied at its start, in words."""

    def __init__(self, worker_id: int, seat: Seat, listener: Listener, hooks: WorkerHooks) -> None:
        """Represent a worker that was requested from the pool host. Needs the running loop."""
        super().__init__(seat.page, Outbox(self.kill))
        self.id = worker_id
        self.worker_class = seat.worker_class
        self.nid = seat.nid
        self.cpu = seat.cpu
        self.pid = 0
        self.idle_since_s = 0.0
        """When it last became idle, by the loop's clock."""
        self.retired = False
        """Whether it was ended because nobody needed it, or no other user may have it."""
        self.tainted = False
        """Whether it has got code that is not ours, and so ends with its job."""
        self._state = WorkerState.STARTING
        self._hooks = hooks
        self._is_set_up = self._killed = self._is_dead = self._ended = False
        self.applied = Applied()
        self.started_s = 0.0
        self.memory_group = ""
        """Directory of the memory cgroup of a caller that it works in; "" = ours."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._pidfd = -1
        self._why, self._status_final = "", False
        self._status: int | None = None
        self._dead_timer: asyncio.TimerHandle | None = None

    @property
    def is_lead(self) -> bool:
        """Whether it runs at normal priority, for a caller that waits."""
        return self.worker_class is WorkerClass.LEAD

    def has_priority_for(self, caller: Priority) -> bool:
        """Whether its priority is that of a lead for such a caller."""
        return self.priority == caller.standing_in(self.base)

    @property
    def is_dying(self) -> bool:
        """Whether it was killed or is dead, so that its pid must not be used any more."""
        return self._killed or self._is_dead or self._ended

    # -- life ---------------------------------------------------------------

    @property
    def state(self) -> WorkerState:
        """Its state in the life of a worker."""
        return self._state

    @state.setter
    def state(self, state: WorkerState) -> None:
        was, self._state = self._state, state
        if state is WorkerState.IDLE is not was:
            self.idle_since_s = self._loop.time()
            self._hooks.idle()

    def attach(self, pid: int, sock: socket.socket, pidfd: int) -> None:
        """Take over the socket and the pidfd of the process that was forked."""
        self.pid, self._sock, self._pidfd = pid, sock, pidfd
        self.started_s = self._loop.time()
        sock.setblocking(False)
        self._outbox.open(sock)
        self._loop.add_reader(sock.fileno(), self._on_readable)
        self._loop.add_reader(pidfd, self._on_pidfd)
        if self.state is WorkerState.STOPPING:
            self._close_socket()  # it is not needed any more: it sees end of file

    def kill(self, why: str = "") -> None:
        """Send SIGKILL. `on_dead` follows when its death is seen.

        Args:
            why: its fault, in words; if given, its work counts as the cause of death.
        """
        self._why = self._why or why
        if self._pidfd >= 0:
            first, self._killed = not self._killed, True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                # Only now is it certain that the pid is still its own.
                if first:
                    # Dying takes CPU time, which a starved process does not get.
                    self._hooks.raise_(self.pid)

    def resume(self) -> None:
        """Let it go on if it was stopped by SIGSTOP."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def set_exit_status(self, status: int | None) -> None:
        """Record the status that the pool host got from waitpid; None = it will never be known."""
        if not self._status_final:
            self._status, self._status_final = status, True
        if self._dead_timer is not None or self._is_dead or self._pidfd < 0:
            self._finish_death()

    def _on_pidfd(self) -> None:
        # First of all, so that a death is reported once, even if a frame causes an error.
        self._loop.remove_reader(self._pidfd)
        self._is_dead = True
        try:
            # Frames that were sent before the death count.
            self._on_readable(limit=1 << 30)
        finally:
            if self._status_final:
                self._finish_death()
            elif not self._ended and not self.tainted:
                # For a worker with foreign code the host reports when all processes that it started are gone.
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
        death = Death(self._status, seq, slot[frames.SLOT_POSITION], self._why, undoing, self.claim)
        self._hooks.gone(self, death)

    def _close(self) -> None:
        self._close_socket()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _close_socket(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._outbox.close()
            self._sock.close()
            self._sock = None

    def stop(self) -> None:
        """Let it end on its own: it sees end of file after the frames that were sent."""
        self.state = WorkerState.STOPPING
        self._close_socket()

    def retire(self) -> None:
        """The same, and its slot becomes free for another worker."""
        self.retired = True
        self.stop()

    def taint(self) -> None:
        """Record that it gets code that is not ours."""
        self.tainted = True

    def ends_with_its_job(self) -> bool:
        """Retire it if it has got code that is not ours; whether it did. Call it at the end of its job."""
        if self.tainted:
            self.retire()
        return self.tainted

    # -- frames from it ---------------------------------------------------------

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
                # A worker that closed its socket and lives on would keep its chunk forever.
                self.kill()
                return
            read += len(frame)
            self._on_frame(frame)

    def _on_frame(self, frame: bytes) -> None:
        try:
            message = messages.parse(frame)
        except FrameInvalid as error:
            # The memory of a process that sends nonsense cannot be trusted.
            self.kill(f"sent nonsense ({error})")
            return
        if isinstance(message, Done):
            self._listener.on_done(self, message)
        elif isinstance(message, Ready):
            if self._is_set_up:
                # It may hold something, and may have run code that is not ours: it must get no more work.
                self.kill("sent nonsense (READY twice)")
                return
            self._is_set_up = True
            self.applied = message.applied
            self.base = self.priority = self.applied.priority
            self.own_missing = self.applied.missing
            self.state = WorkerState.IDLE
            self._listener.on_ready(self)
        else:
            self._listener.on_report(self, message)
