"""Frames from the daemon to one worker: kept in order, and sent when the socket has room."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ktaskd.host.sockets.unixsock import Fds, send
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames

IN_FLIGHT_PAUSE_S = 0.005
"""Pause while too many descriptors of this user are on their way; see ETOOMANYREFS in unix(7)."""


class Outbox:
    """Sends frames over a socket that it does not own.

    Args:
        fail: called with the reason, in words, if a frame can never be sent.
    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        """Send nothing before `open`. Needs the running loop."""
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._unsent: deque[tuple[bytes, Fds]] = deque()
        self._with_next: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        """Set while too many descriptors are on their way."""

    @property
    def is_empty(self) -> bool:
        """Whether no frame waits for room in the socket."""
        return not self._unsent

    def open(self, sock: socket.socket) -> None:
        """Send over this non-blocking socket, which stays the caller's."""
        self._sock = sock

    def close(self) -> None:
        """Drop all frames and send nothing more. Call it before the socket is closed."""
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._sock = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, fds in self._unsent:
            fds.close()
        self._unsent.clear()

    def keep(self, frame: bytes) -> None:
        """Send a frame together with the next one, which it needs to have an effect.

        Each send wakes the worker, so one datagram for both saves a wake-up.
        """
        self._with_next.append(frame)
        if sum(map(len, self._with_next)) > FRAME_BYTES_MAX // 4:
            self.send(self._with_next.pop())

    def drop_kept(self) -> None:
        """Forget the frames that wait for the next one."""
        self._with_next.clear()

    def send(self, frame: bytes, fds: Sequence[int] = ()) -> None:
        """Send a frame, and descriptors with it, which stay the caller's; in order, maybe later."""
        if self._sock is None:
            return  # the worker is dying: its death tells what became of its chunks
        if self._with_next:
            kept, self._with_next = self._with_next, []
            fits = not fds and sum(map(len, kept)) + len(frame) < FRAME_BYTES_MAX - 1024
            if fits:
                frame = frames.pack_batch([*kept, frame])
            else:
                self.send(frames.pack_batch(kept))
        if not self._unsent and self._try_send(frame, fds):
            return
        copies = _copies(fds)
        if not self._unsent and self._timer is None:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
        self._unsent.append((frame, copies))

    def _try_send(self, frame: bytes, fds: Iterable[int]) -> bool:
        """Whether the frame is done with: False if the socket has no room now."""
        assert self._sock is not None
        try:
            send(self._sock, frame, fds)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:
                self._pause()
                return False
            if error.errno == errno.EMSGSIZE:
                self._fail(f"the daemon could not send it {len(frame)} bytes: {error.strerror}")
            # Any other error means that the worker is dying, see `send`.
        return True

    def _pause(self) -> None:
        """Go on a moment later. The socket is writable meanwhile, so its writer would not wait."""
        assert self._sock is not None
        self._loop.remove_writer(self._sock.fileno())
        self._timer = self._timer or self._loop.call_later(IN_FLIGHT_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if self._sock is not None and self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        while self._unsent and self._sock is not None:
            frame, fds = self._unsent[0]
            if not self._try_send(frame, fds):
                return
            self._unsent.popleft()
            fds.close()
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())


def _copies(fds: Iterable[int]) -> Fds:
    """Copies of descriptors; raises OSError, and then owns none."""
    copies = Fds()
    try:
        for fd in fds:
            copies.add(os.dup(fd))
    except OSError:
        copies.close()
        raise
    return copies
