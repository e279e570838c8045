"""A worker's connection to the program whose code it runs.

The program sends its surroundings and the descriptors of its output. The worker sends log records.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ktask.v1 import calls, code, surroundings
from ktask.v1.segments import Segment

_CONNECT_S = 10.0
_CREDENTIALS = struct.Struct("3i")
_RECEIVE_BYTES = 64 * 1024
_CLOEXEC, _TRUNCATED = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)
"""As plain numbers, with which the operators are much faster."""

_PLAIN = (bool, bytes, int, float, str, type(None))

Frame = tuple[int, int, bytes]


class Connection:
    """A connection to the program."""

    def __init__(self, name: str) -> None:
        """Connect; raises OSError, also if another user listens there."""
        self.socket = _connected(name)
        self._passed: list[int] = []
        self._received = b""
        self._sending = threading.Lock()
        # A child that a call forks must not keep the connection open after this worker has ended.
        os.register_at_fork(after_in_child=self._leave_in_child)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _leave_in_child(self) -> None:
        self.socket.close()
        logging.getLogger().handlers[:] = [
            one for one in logging.getLogger().handlers if not isinstance(one, _Forwarding)
        ]

    def settle(self) -> None:
        """Adopt the program's surroundings, which it sends first."""
        while not self.take_on(*self.receive()):
            pass

    def take_on(self, kind: int, number: int, payload: bytes) -> bool:
        """Adopt the surroundings in a frame; returns whether that was the last such frame."""
        if kind == calls.OUTPUT:
            self._print_to(payload)
            return False
        if kind == calls.SETUP:
            surroundings.take_on(payload)
            logging.getLogger().handlers[:] = [_Forwarding(self.send)]
            # Not earlier: a worker that has to restart first returns with another Python.
            self.send(calls.HELLO, os.getpid(), code.PYTHON.encode())
            return True
        raise OSError(errno.EPROTO, f"calls: received a frame of kind {kind}, which is not for workers")

    def _print_to(self, numbers: bytes) -> None:
        """Redirect this process's output to the caller's."""
        for number, fd in zip(numbers, self.passed(len(numbers)), strict=True):
            os.dup2(fd, number)
            os.close(fd)

    def send(self, kind: int, number: int = 0, payload: bytes = b"") -> None:
        """Send a frame; raises OSError."""
        self.send_all(calls.pack(kind, number, payload))

    def send_all(self, frames: bytes, segments: Sequence[Segment] = ()) -> None:
        """Send frames with the descriptors that they mention; raises OSError."""
        with self._sending:  # threads of a call may log
            sent = 0
            if segments:
                sent = socket.send_fds(self.socket, [frames], [segment.fd for segment in segments])
            self.socket.sendall(memoryview(frames)[sent:])

    def passed(self, count: int) -> list[int]:
        """The oldest descriptors that have come and that nothing else has taken."""
        taken, self._passed = self._passed[:count], self._passed[count:]
        return taken

    @property
    def has_more(self) -> bool:
        """Whether something has been received that `receive` has not returned yet."""
        return bool(self._received)

    def receive(self) -> Frame:
        """Wait for the next frame: kind, number, payload; raises EOFError at the end."""
        kind, number, length = calls.unpack_head(self._read(calls.HEAD_BYTES))
        return kind, number, self._read(length)

    def _read(self, count: int) -> bytes:
        while len(self._received) < count:
            data = self._receive_some(max(_RECEIVE_BYTES, count - len(self._received)))
            self._received = self._received + data if self._received else data
        found, self._received = self._received[:count], self._received[count:]
        return found

    def _receive_some(self, count: int) -> bytes:
        data, passed, flags, _ = self.socket.recvmsg(count, calls.ANCILLARY_BYTES, _CLOEXEC)
        if passed:
            self._passed += calls.descriptors(passed)
        if flags & _TRUNCATED:
            raise OSError(errno.EMFILE, "calls: this worker has no descriptor left")
        if not data:
            raise EOFError("the caller has closed its connection")
        return data


def flush() -> None:
    """Flush the output of a call."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads the output any more
            stream.flush()


class _Forwarding(logging.Handler):
    """Sends the log records of a call to the program, whose handlers decide what to do with them."""

    def __init__(self, send: Callable[[int, int, bytes], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a formatted record; one that cannot be formatted is reported on standard error."""
        try:
            fields = dict(record.__dict__, msg=record.getMessage(), args=None, exc_info=None)
            if record.exc_info and not record.exc_text:
                fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
            with contextlib.suppress(OSError):  # the program has gone
                self._send(calls.LOG, 0, _packed(fields))
        except Exception:
            self.handleError(record)


def _packed(fields: Mapping[str, Any]) -> bytes:
    """Pickle a record's fields, leaving out values that need a module to be unpickled."""
    return pickle.dumps({name: value for name, value in fields.items() if _is_plain(value)})


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple | dict) and type(value) in (list, tuple, dict):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return all(map(_is_plain, parts))
    return type(value) in _PLAIN


def _connected(name: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        line.settimeout(_CONNECT_S)
        line.connect(calls.path_of(name))
        _, uid, _ = _CREDENTIALS.unpack(
            line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid != os.geteuid():
            raise OSError(errno.EACCES, f"calls: the socket belongs to uid {uid}, wanted {os.geteuid()}")
        line.settimeout(None)
    except OSError as error:
        line.close()
        words = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, f'argument "line": "{name[:200]}": {words}') from error
    return line
