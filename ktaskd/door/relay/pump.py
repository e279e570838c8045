"""One direction of a relay: bytes pass unchanged, and are read only when they can be passed on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from ktaskd.door.admission.turns import Ticket
from ktaskd.door.relay.calls import Calls
from ktaskd.door.relay.frames import Frames, Mark

BUFFER_BYTES = 64 * 1024
"""Most bytes that wait in one direction of one relay."""

CROWDED_BYTES = 16 * 1024
"""Most bytes read at once from a user who waits in the queue, since many may wait there."""

FRAMES_MAX = 100
"""Frames that are looked at in one turn. They take 0.2 ms."""

FRAME_COST_S = 4e-6
"""Cost of one frame to gRPC, including the answer. Measured with pings."""

FRAME_BYTES_MAX = 16384
"""Largest payload of a frame that the server announces. Source: RFC 9113, section 6.5.2."""

# One loop runs all relays, and each has finished with the buffer when it returns.
_BUFFER = memoryview(bytearray(BUFFER_BYTES))


class Pump:
    """One direction. In each turn of its user it reads once, and looks at some frames.

    It reads nothing more while bytes that were read have not been passed on.

    Args:
        on_done: called when the source has ended and the end was passed on.
        on_broken: called when either socket fails.
    """

    __slots__ = (
        "_at",
        "_calls",
        "_data",
        "_frames",
        "_from",
        "_handle",
        "_loop",
        "_on_broken",
        "_on_done",
        "_reading",
        "_rest",
        "_sink",
        "_source",
        "_stopped",
        "_ticket",
        "done",
    )

    def __init__(
        self,
        calls: Calls,
        source: socket.socket,
        sink: socket.socket,
        frames: Frames,
        on_done: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        """Nothing is read before `start`."""
        self._loop = asyncio.get_running_loop()
        self._calls = calls
        self._source = source
        self._sink = sink
        self._frames = frames
        self._on_done = on_done
        self._on_broken = on_broken
        self._data: memoryview | bytes = b""
        """Bytes that were read: those before `_from` were passed on, those before `_at` looked at."""
        self._from = self._at = 0
        self._rest: memoryview | bytes = b""
        """Bytes that were passed on and that the kernel has not taken."""
        self._reading = False
        self._stopped = False
        self._ticket: Ticket | None = None
        self._handle: asyncio.Handle | None = None
        self.done = False

    @property
    def held(self) -> int:
        """Bytes that were read and not passed on."""
        return len(self._data) - self._from + len(self._rest)

    def start(self) -> None:
        """Read from now on."""
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._source.fileno(), self._on_readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._source.fileno())

    def stop(self) -> None:
        """Neither read nor write any more. There is no way back."""
        self._stopped = True
        self._pause()
        self._loop.remove_writer(self._sink.fileno())
        for waiting in (self._ticket, self._handle):
            if waiting is not None:
                waiting.cancel()

    # -- turns

    def _on_readable(self) -> None:
        if self._ask():
            self._go_on()
        else:
            self._pause()

    def _ask(self) -> bool:
        self._ticket = self._calls.user.ask(self._on_turn)
        return self._ticket is None

    def _on_turn(self) -> None:
        self._ticket = None
        self._go_on()

    def _go_on(self) -> None:
        """Use a turn."""
        self._handle = None
        if self._stopped or self.done:
            return
        begin_s, frames = time.thread_time(), 0
        if self._data or self._read():
            frames = self._look()
            self._pass_on()
        self._calls.user.charge(time.thread_time() - begin_s + frames * FRAME_COST_S)
        if not (self._stopped or self.done):
            self._prepare()

    def _prepare(self) -> None:
        """Arrange for the next turn, as soon as there can be one."""
        if self._rest or self._waits():
            self._pause()
        elif not self._data:
            self.start()
        else:
            self._pause()
            if self._ask():
                # Other connections are served in between.
                self._handle = self._loop.call_soon(self._go_on)

    def _holds(self) -> bool:
        """Whether the last frame that was looked at may not be passed on yet."""
        return False

    def _waits(self) -> bool:
        """Whether something other than the kernel has to happen first, which then continues on its own."""
        return False

    # -- one turn

    def _read(self) -> bool:
        """Read once; return whether there were any bytes."""
        light = not self._calls.user and self._calls.user.calls <= 1
        try:
            count = self._source.recv_into(_BUFFER, BUFFER_BYTES if light else CROWDED_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._on_broken()
            return False
        if not count:
            self._finish()
            return False
        self._data, self._from, self._at = _BUFFER[:count], 0, 0
        return True

    def _look(self) -> int:
        """Look at the next frames, up to one that has to wait; return how many."""
        size = len(self._data)
        for count in range(FRAMES_MAX):
            if self._at == size:
                return count
            mark, at = self._frames.next(self._data, self._at)
            self._at = at
            if mark is not None and not self._visit(mark):
                self._pass(self._data[self._from : max(mark.offset, self._from)])
                self._from = max(mark.offset, self._from)
                return count + 1
        return FRAMES_MAX

    def _visit(self, mark: Mark) -> bool:
        """Act on a frame; return whether it may be passed on now."""
        raise NotImplementedError  # each direction has its own

    def _pass_on(self) -> None:
        """Pass on the bytes that were looked at, and keep the rest."""
        if not self._holds():
            self._pass(self._data[self._from : self._at])
            self._from = self._at
        if self._from == len(self._data):
            self._data, self._from, self._at = b"", 0, 0
        elif isinstance(self._data, memoryview):
            # All relays share the buffer.
            self._data = bytes(self._data[self._from :])
            self._at -= self._from
            self._from = 0

    def _pass(self, data: memoryview | bytes) -> None:
        """Hand bytes to the kernel. Bytes that it does not take wait, and reading pauses."""
        if self._rest:
            self._rest = bytes(self._rest) + bytes(data)
            return
        sent = self._send(data) if data else 0
        if sent < len(data) and not self._stopped:
            self._rest = bytes(data[sent:])
            self._loop.add_writer(self._sink.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._rest = self._rest[self._send(self._rest) :]
        if not self._rest and not self._stopped:
            self._loop.remove_writer(self._sink.fileno())
            self._prepare()

    def _send(self, data: memoryview | bytes) -> int:
        try:
            return self._sink.send(data, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._on_broken()
            return 0

    def _finish(self) -> None:
        """Pass on the end of the stream; the other direction may continue."""
        self._pause()
        self.done = True
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._on_broken()
            return
        self._on_done()
