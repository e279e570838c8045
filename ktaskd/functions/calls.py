"""The body that serves calls of the caller's own functions, which come straight from the caller.

A chunk is a turn: the worker takes calls for as long as a chunk should last, and then lets the
daemon say who is next. It asks for each call, so that it has none in hand when it goes.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from ktask.v1 import calls, code

from ktaskd.functions.body import Body, Context, Control, Json
from ktaskd.model.limits import CHUNK_TIME_TARGET_S

IDLE_LOOK_S = 0.01
"""Between two looks at whether the worker is wanted elsewhere, while no call comes."""

_CONNECT_S = 10.0
_CREDENTIALS = struct.Struct("3i")

Frame = tuple[int, int, bytes]


class Calls(Body):
    """python.calls."""

    def __init__(self) -> None:
        """Nobody is connected to."""
        self._line: _Line | None = None

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Serve calls for one turn.

        Returns:
            `start` where it was told to stop, else `end`; "last" where there will be no more.
        """
        if control.quantum(start):
            return start, None
        if self._line is None:
            self._line = _Line(str(context.arg["line"]))
        try:
            more = self._line.serve(lambda: control.quantum(start), time.monotonic() + CHUNK_TIME_TARGET_S)
        except (EOFError, ConnectionError):
            more = False  # the caller is gone, and with it the job soon
        if not more:
            return end, {"last": True}
        return (start if control.quantum(start) else end), None

    def wipe(self) -> None:
        """Leave whoever it is connected to."""
        if self._line is not None:
            self._line.close()
            self._line = None


class _Line:
    """A connection to the caller."""

    def __init__(self, name: str) -> None:
        """Connect; raises OSError, also where somebody else listens there."""
        self._socket = _connected(name)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._functions: dict[int, Any] = {}
        self._send(calls.HELLO, os.getpid(), code.PYTHON.encode())

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def serve(self, stop: Callable[[], bool], until_s: float) -> bool:
        """Do calls until told to stop, or until the turn is over; whether there may be more."""
        asked = False
        while not (stop() or time.monotonic() >= until_s):
            if not asked:
                self._send(calls.READY)
                asked = True
            if self._poll.poll(IDLE_LOOK_S * 1000):
                frame = self._receive()
                if frame[0] == calls.NO_MORE:
                    return False
                if self._take(*frame):
                    asked = False
        return self._leave() if asked else True

    def _leave(self) -> bool:
        """Take back that a call is wanted, and do the one that is on its way already."""
        self._send(calls.AWAY)
        while True:
            frame = self._receive()
            if frame[0] in (calls.LEAVE, calls.NO_MORE):
                return frame[0] == calls.LEAVE
            self._take(*frame)

    def _take(self, kind: int, number: int, payload: bytes) -> bool:
        """Do what a frame says; whether it was a call."""
        if kind in (calls.CALL, calls.CALL_OF):
            self._send(*self._result(kind, number, payload))
            return True
        if kind == calls.SETUP:
            code.apply_setup(payload)
        elif kind == calls.FUNCTION:
            self._functions[number] = payload
            if len(self._functions) > calls.FUNCTIONS_MAX:
                del self._functions[next(iter(self._functions))]
        else:
            raise OSError(errno.EPROTO, f"calls: got a frame of kind {kind}, wanted one that workers get")
        return False

    def _result(self, kind: int, number: int, payload: bytes) -> Frame:
        try:
            function, given, named = self._unpacked(kind, payload)
            return calls.RESULT, number, code.dumps(function(*given, **named))
        # SystemExit too: it is the call that ends, and not its worker.
        except BaseException as error:
            return calls.RAISED, number, code.dump_exception(error)

    def _unpacked(self, kind: int, payload: bytes) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
        if kind == calls.CALL:
            function, given, named = pickle.loads(payload)
            return function, given, named
        number, pickled = calls.split_call_of(payload)
        found = self._functions[number]
        if isinstance(found, bytes):
            found = self._functions[number] = pickle.loads(found)
        return found, pickle.loads(pickled), {}

    def _send(self, kind: int, number: int = 0, payload: bytes = b"") -> None:
        self._socket.sendall(calls.pack(kind, number, payload))

    def _receive(self) -> Frame:
        kind, number, length = calls.unpack_head(self._read(calls.HEAD_BYTES))
        return kind, number, self._read(length)

    def _read(self, count: int) -> bytes:
        buffer = bytearray(count)
        with memoryview(buffer) as view:
            done = 0
            while done < count:
                got = self._socket.recv_into(view[done:])
                if not got:
                    raise EOFError("the caller has closed its line")
                done += got
        return bytes(buffer)


def _connected(name: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        line.settimeout(_CONNECT_S)
        line.connect(calls.path_of(name))
        _, uid, _ = _CREDENTIALS.unpack(
            line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid != os.geteuid():
            raise OSError(errno.EACCES, f"calls: the socket is that of uid {uid}, wanted {os.geteuid()}")
        line.settimeout(None)
    except OSError as error:
        line.close()
        words = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, f'argument "line": "{name[:200]}": {words}') from error
    return line
