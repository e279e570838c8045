"""The two directions of a relay: bytes pass unchanged, and none is read that cannot be passed on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from ktaskd.door.calls import Calls
from ktaskd.door.frames import RST_STREAM, Frames, Mark

BUFFER_BYTES = 64 * 1024
"""Most bytes that wait in one direction of one relay."""

# One loop runs all relays, and each is done with the buffer when it returns.
_BUFFER = memoryview(bytearray(BUFFER_BYTES))


class Way:
    """One direction: reads nothing more while the other side is full."""

    __slots__ = ("_frames", "_loop", "_on_broken", "_on_done", "_rest", "_sink", "_source", "done")

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        frames: Frames,
        on_done: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._frames = frames
        self._on_done = on_done
        self._on_broken = on_broken
        self._rest: memoryview | bytes = b""
        self.done = False

    def start(self) -> None:
        """Read from now on."""
        self._loop.add_reader(self._source.fileno(), self._on_readable)

    def stop(self) -> None:
        """Neither read nor write any more; for good."""
        self._loop.remove_reader(self._source.fileno())
        self._loop.remove_writer(self._sink.fileno())

    def _on_readable(self) -> None:
        try:
            n = self._source.recv_into(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._on_broken()
            return
        if not n:
            self._finish()
            return
        self._take(_BUFFER[:n])

    def _take(self, data: memoryview) -> None:
        """Pass on what was read."""
        raise NotImplementedError  # each direction does its own

    def _pass(self, data: memoryview) -> bool:
        """Whether all of it is with the kernel, or the connection is gone; else reading pauses."""
        sent = self._send(data)
        if sent == len(data) or self._gone():
            return True
        self._rest = bytes(data[sent:])
        self._loop.remove_reader(self._source.fileno())
        self._loop.add_writer(self._sink.fileno(), self._on_writable)
        return False

    def _on_writable(self) -> None:
        self._rest = self._rest[self._send(self._rest) :]
        if not self._rest and not self._gone():
            self._loop.remove_writer(self._sink.fileno())
            self._go_on()

    def _go_on(self) -> None:
        """All that was read is passed on."""
        self.start()

    def _send(self, data: memoryview | bytes) -> int:
        try:
            return self._sink.send(data, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._on_broken()
            return 0

    def _gone(self) -> bool:
        return self._sink.fileno() < 0

    def _finish(self) -> None:
        """Pass the end of the stream on; the other direction may go on."""
        self._loop.remove_reader(self._source.fileno())
        self.done = True
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._on_broken()
            return
        self._on_done()


class WayOut(Way):
    """From grpc to the client: sees which calls end."""

    __slots__ = ("_calls",)

    def __init__(self, calls: Calls, *args: Any) -> None:
        super().__init__(*args)
        self._calls = calls

    def _take(self, data: memoryview) -> None:
        for mark in self._frames.feed(data):
            if mark.ends:
                self._calls.end(mark.stream)
        self._pass(data)


class WayIn(Way):
    """From the client to grpc: a call waits here for its turn, and what comes after it too."""

    __slots__ = ("_calls", "_held", "_marks")

    def __init__(self, calls: Calls, *args: Any) -> None:
        super().__init__(*args)
        self._calls = calls
        self._held: memoryview | bytes = b""
        self._marks: list[Mark] = []

    def _take(self, data: memoryview) -> None:
        self._pass_in(data, self._frames.feed(data))

    def _pass_in(self, data: memoryview, marks: list[Mark]) -> None:
        """Pass on what comes before the first call that has to wait."""
        for i, mark in enumerate(marks):
            if mark.opens and not self._calls.begin(mark.stream, self._on_turn):
                self._hold(data, marks[i:])
                return
            if mark.kind == RST_STREAM:
                self._calls.end(mark.stream)
        self._pass(data)

    def _hold(self, data: memoryview, marks: list[Mark]) -> None:
        at = marks[0].offset
        self._held = bytes(data[at:])
        self._marks = [mark._replace(offset=mark.offset - at) for mark in marks]
        self._loop.remove_reader(self._source.fileno())
        if at:
            self._pass(data[:at])

    def _on_turn(self) -> None:
        if not self._rest:
            self._go_on()

    def _go_on(self) -> None:
        if self._calls.waits:
            return
        held, marks = memoryview(self._held), self._marks
        self._held, self._marks = b"", []
        self.start()
        if held:
            self._pass_in(held, marks)
