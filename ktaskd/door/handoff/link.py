"""One keeper process from the daemon's side: messages, silence, death."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from typing import Protocol

from ktaskd.door.admission.patience import Alarm
from ktaskd.door.handoff import wire
from ktaskd.door.handoff.wire import Frame
from ktaskd.host.sockets.unixsock import Fds, close_quietly, receive, send

START_S = 20.0
"""Longest time until READY: an interpreter starts on an overloaded machine."""

FRAMES_AT_ONCE = 64

NICE = 5
"""Added to the daemon's nice value for a keeper, so that a uid that floods its keeper slows down the keeper
and not the daemon. With autogroups its own session does that; without them the nice value does."""

log = logging.getLogger(__name__)


class LinkOwner(Protocol):
    """The object that a keeper's messages and its end are reported to."""

    def on_frame(self, link: Link, frame: Frame, fds: Fds, complete: bool) -> None:
        """Act on a message other than BUSY, IDLE and READY. Descriptors not taken are closed afterwards."""

    def on_lost(self, link: Link, why: str) -> None:
        """Act on a keeper that hangs or died. Called once."""

    def on_reaped(self, link: Link) -> None:
        """Act on the reaping of a dead keeper. Called once, after `on_lost`."""


class Link:
    """One keeper process. Must be made in the loop's thread.

    The kernel kills the keeper when the thread that started it ends, so that
    thread must live as long as the daemon.

    Attributes:
        culprit: (conn, number) of the request that the keeper works on; zeros if none.
        unsent: messages that wait for room in the socket, with the descriptors they own.
    """

    def __init__(self, uid: int, owner: LinkOwner, *, silence_s: float) -> None:
        """Start the process.

        Raises:
            OSError: it cannot be started.
        """
        self.uid = uid
        self.culprit = (0, 0)
        self.unsent: deque[tuple[Frame, Fds]] = deque()
        self.lost = False
        self._owner = owner
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._ready = False
        self._expected = False
        self._heard = 0
        self._control, self._process = _start()
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._control.close()
            self._process.kill()
            self._process.wait()
            raise
        self._timer: Alarm | None = None
        self._watch()
        self._loop.add_reader(self._control.fileno(), self._on_readable)
        self._loop.add_reader(self._pidfd, self._on_dead)

    @property
    def ready(self) -> bool:
        """Whether the process has started."""
        return self._ready

    @property
    def busy(self) -> bool:
        """Whether it has something to do now."""
        return self._expected

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, frame: Frame, fds: Fds | None = None) -> None:
        """Send a message, now or when there is room; owns `fds`.

        A keeper that does not act on it in time counts as silent.
        """
        fds = fds or Fds()
        if not self.unsent and self._try_send(frame, fds):
            self._expect(frame)
            return
        self.unsent.append((frame, fds))
        self._loop.add_writer(self._control.fileno(), self._on_writable)
        self._expect(frame)

    def end(self) -> None:
        """Close the control socket, at which the process ends on its own."""
        if not self.lost:
            self.lost = True
            self._disconnect()
            while self.unsent:
                self.unsent.popleft()[1].close()

    def kill(self) -> None:
        """Kill the process. It may take forever to die; nobody waits for that."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    def forget(self) -> None:
        """Stop watching the process, dead or not."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            close_quietly(self._pidfd)
            self._pidfd = -1

    # ---- sending

    def _try_send(self, frame: Frame, fds: Fds) -> bool:
        """Send a message; return False if there is no room now."""
        try:
            send(self._control, frame.pack(), fds, flags=socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionError):
            # The socket is full, or the keeper is dead, which will be noticed in a moment.
            return False
        except OSError as error:
            if not fds:
                raise
            # Some descriptors cannot be passed, as sockets nested in sockets. The
            # keeper also answers a message that arrives without its descriptors.
            log.warning('keeper_send_failed uid=%d error="%s"', self.uid, error)
            fds.close()
            return self._try_send(frame, fds)
        fds.close()
        return True

    def _on_writable(self) -> None:
        while self.unsent and self._try_send(*self.unsent[0]):
            self.unsent.popleft()
        if not self.unsent:
            self._loop.remove_writer(self._control.fileno())

    def _expect(self, frame: Frame) -> None:
        if not self._expected and frame.kind != wire.ANSWER:
            self.culprit = (frame.conn, frame.number)
            self._expected = True
            if self._ready:
                self._watch()

    @property
    def _patience_s(self) -> float:
        return self._silence_s if self._ready else START_S

    def _watch(self) -> None:
        self._stop_watching()
        # When the daemon gets no CPU time, the keeper may get none either.
        self._timer = Alarm(self._patience_s, self._on_silent)

    # ---- receiving

    def _on_readable(self) -> None:
        for _ in range(FRAMES_AT_ONCE):
            if self.lost or not self._take_one():
                return

    def _take_one(self) -> bool:
        """Act on one message; return whether there may be more."""
        try:
            message = receive(self._control, wire.FRAME_BYTES_MAX, flags=socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lose(f"control socket: {error}")
            return False
        with message.fds:
            if not message.data:
                self._lose("its process ended")
                return False
            try:
                self._on_frame(wire.unpack(message.data), message.fds, message.complete)
            except (struct.error, ValueError, KeyError, TypeError) as error:
                log.exception("keeper_nonsense uid=%d", self.uid)
                self.kill()
                self._lose(f"it sent an invalid message: {error!r}")
        return True

    def _on_frame(self, frame: Frame, fds: Fds, complete: bool) -> None:
        self._heard += 1
        if frame.kind == wire.BUSY:
            self.culprit = (frame.conn, frame.number)
            self._expected = True
            self._watch()
        elif frame.kind == wire.IDLE:
            self.culprit = (0, 0)
            self._expected = False
            self._stop_watching()
        elif frame.kind == wire.READY:
            self._ready = True
            self._stop_watching()
            if self._expected:
                self._watch()
        else:
            self._owner.on_frame(self, frame, fds, complete)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- the end

    def _on_silent(self) -> None:
        self._timer = None
        # The loop itself may have been late, so messages that have arrived count.
        heard = self._heard
        self._on_readable()
        if self.lost or self._timer is not None:
            return
        if self._heard == heard:
            patience_s = self._patience_s
            self.kill()
            self._lose(f"it was silent for {patience_s:g} s")
        elif self._expected:
            self._watch()

    def _on_dead(self) -> None:
        # Messages that it sent before it died still count.
        self._on_readable()
        self._process.wait()
        self.forget()
        self._lose(f"its process ended with status {self._process.returncode}")
        self._owner.on_reaped(self)

    def _lose(self, why: str) -> None:
        if self.lost:
            return
        self.lost = True
        self._disconnect()
        log.warning('keeper_lost uid=%d pid=%d why="%s"', self.uid, self.pid, why)
        self._owner.on_lost(self, why)

    def _disconnect(self) -> None:
        self._stop_watching()
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        self._control.close()


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            # -I: neither the daemon's working directory nor its environment
            # decides which code a keeper runs.
            command = [sys.executable, "-I", "-m", "ktaskd.door.handoff.keeper"]
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        # At once, before it has loaded anything: it works for one user, and other users are waiting.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    except BaseException:
        ours.close()
        raise
    return ours, process
