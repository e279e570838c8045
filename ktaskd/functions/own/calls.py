"""The body that serves calls of the caller's own functions, which come straight from the caller.

A chunk is a slice of time: the worker serves calls for as long as a chunk should last, and then lets
the daemon decide what is next. It asks for each call, or takes a token for one that it was sent ahead,
so it holds none when it leaves.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any

from ktask.v1 import calls, code, parcels
from ktask.v1.parcels import Parcel
from ktask.v1.segments import Segment

from ktaskd.functions.body import UNBOUNDED, Body, Context, Control, Json
from ktaskd.functions.own.connection import Connection, flush
from ktaskd.model.limits import CHUNK_TIME_TARGET_S

IDLE_LOOK_S = 0.01
"""How often a worker without a call checks whether it is needed elsewhere."""

REST_AFTER_S = 0.03
"""How long a worker waits for a call before it sleeps and leaves its CPU to others."""


class Calls(Body):
    """python.calls."""

    quantum = UNBOUNDED

    def __init__(self) -> None:
        """Begin without a connection."""
        self._connection: _CallConnection | None = None

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Serve calls for one slice of time.

        Returns:
            `start` if control stopped it, otherwise `end`; "last" if there will be no more calls.
        """
        if control.quantum(start):
            return start, None
        if self._connection is None:
            self._connection = _CallConnection(str(context.arg["line"]))
        try:
            more = self._connection.serve(lambda: control.quantum(start), control.rest)
        except (EOFError, ConnectionError):
            more = False  # the caller is gone, and its job will end soon
        if not more:
            return end, {"last": True}
        return (start if control.quantum(start) else end), None

    def wipe(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def is_helper() -> bool:
    """Whether this worker runs only on CPU time that nobody else needs."""
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_IDLE


def _ready() -> bytes:
    return calls.pack(calls.READY, is_helper())


_Answer = tuple[bytes, tuple[Segment, ...]]
"""Frames, and the segments that they mention."""
_NO_ANSWER: _Answer = b"", ()


class _CallConnection(Connection):
    """A connection that carries calls."""

    def __init__(self, name: str) -> None:
        """Connect; raises OSError."""
        self._functions: dict[int, Any] = {}
        self._table: tuple[bytes, tuple[Segment, ...]] = b"", ()
        self._answer: _Answer = _NO_ANSWER
        self._tokens = -1
        self._is_ahead = False
        self._is_settled = False
        super().__init__(name)
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)

    def close(self) -> None:
        """Close the connection, and the eventfd of the calls ahead."""
        super().close()
        if self._tokens >= 0:
            os.close(self._tokens)
            self._tokens = -1

    def serve(self, stop: Callable[[], bool], rest: Callable[[int], bool]) -> bool:
        """Serve calls until `stop` returns True or the slice is over.

        Args:
            rest: sleeps until a descriptor is readable; False = end the slice.
        Returns:
            Whether there may be more calls.
        """
        asked, idle_s = False, 0.0
        until_s = time.monotonic() + CHUNK_TIME_TARGET_S

        def is_over() -> bool:
            return stop() or time.monotonic() >= until_s

        if not self._settled(stop, until_s):
            return True
        while not is_over():
            if not asked:
                self.send_all(_ready())
                asked, idle_s = True, 0.0
            if not self.has_more and not self._poll.poll(IDLE_LOOK_S * 1000):
                idle_s += IDLE_LOOK_S
                if idle_s < REST_AFTER_S:
                    continue
                if not rest(self.socket.fileno()):
                    break
                until_s = time.monotonic() + CHUNK_TIME_TARGET_S
            frame = self.receive()
            if frame[0] == calls.NO_MORE:
                return False
            if self._take(*frame):
                asked, idle_s = self._go_on(is_over), 0.0
        return self._leave()

    def _go_on(self, is_over: Callable[[], bool]) -> bool:
        """Answer a call, make those that were sent ahead, and ask for another one; False: did not ask."""
        while not is_over():
            if not self._took_token():
                self._send_answer(_ready())
                return True
            self._send_answer()
            while not self._take(*self.receive(), may_be_ahead=True):
                pass
        self._send_answer()
        return False

    def _took_token(self) -> bool:
        """Whether the next call that was sent ahead is this worker's now."""
        try:
            os.eventfd_read(self._tokens)
        except BlockingIOError:
            return False
        return True

    def _settled(self, stop: Callable[[], bool], until_s: float) -> bool:
        """Adopt the program's surroundings before asking for a call; returns whether that is done."""
        while not self._is_settled and not (stop() or time.monotonic() >= until_s):
            if self._poll.poll(IDLE_LOOK_S * 1000):
                self._is_settled = self.take_on(*self.receive())
        return self._is_settled

    def _leave(self) -> bool:
        """Withdraw the request for a call, and serve a call that is already on its way."""
        self.send(calls.AWAY)
        while True:
            frame = self.receive()
            if frame[0] in (calls.LEAVE, calls.NO_MORE):
                return frame[0] == calls.LEAVE
            if self._take(*frame):
                self._send_answer()

    def _take(self, kind: int, number: int, payload: bytes, *, may_be_ahead: bool = False) -> bool:
        """Handle a frame; returns whether it was a call, which was made and is to be answered."""
        if kind in (calls.CALL, calls.CALL_OF):
            is_ahead, self._is_ahead = self._is_ahead, False
            if is_ahead and not may_be_ahead:
                self._parcel(b"")  # the client has taken it back, or will
                return False
            self._answer = self._made(kind, number, payload)
            return True
        if kind == calls.MEMORY:
            self._table = payload, tuple(map(Segment.received, self.passed(number)))
        elif kind == calls.AHEAD:
            self._is_ahead = True
        elif kind == calls.TOKENS:
            (self._tokens,) = self.passed(1)
        elif kind == calls.FUNCTION:
            self._functions[number] = self._parcel(payload)
            if len(self._functions) > calls.FUNCTIONS_MAX:
                del self._functions[next(iter(self._functions))]
        else:
            self.take_on(kind, number, payload)
        return False

    def _made(self, kind: int, number: int, payload: bytes) -> _Answer:
        """Make a call; returns the frames of its answer."""
        try:
            function, given, named = self._unpacked(kind, payload)
            result = parcels.dump(function(*given, **named))
            del given, named  # the call's memory is given back before its result arrives
        # SystemExit as well: it ends the call, not the worker.
        except BaseException as error:
            return calls.pack(calls.RAISED, number, code.dump_exception(error)), ()
        finally:
            flush()
        frame = calls.pack(calls.RESULT, number, result.inline)
        if not result.table:
            return frame, ()
        memory = calls.pack(calls.MEMORY, len(result.segments), result.table)
        return memory + frame, result.segments

    def _send_answer(self, also: bytes = b"") -> None:
        """Send the answer of the last call, with another frame: each message wakes the client."""
        (frames, segments), self._answer = self._answer, _NO_ANSWER
        self.send_all(frames + also, segments)

    def _unpacked(self, kind: int, payload: bytes) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
        if kind == calls.CALL:
            function, given, named = code.explained(self._parcel(payload).load)
            return function, given, named
        number, pickled = calls.split_call_of(payload)
        parcel = self._parcel(pickled)
        found = self._functions[number]
        if isinstance(found, Parcel):
            found = self._functions[number] = code.explained(found.load)
        return found, code.explained(parcel.load), {}

    def _parcel(self, inline: bytes | memoryview) -> Parcel:
        """The parcel of a frame, with the segments that came before it."""
        table, self._table = self._table, (b"", ())
        return Parcel(inline, *table)
