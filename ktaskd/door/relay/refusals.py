"""Sends a gRPC client the reason why its connection is not served, without gRPC.

A client sees a connection that is just closed as UNAVAILABLE, and connects
again at once. So the door waits for the first call, and answers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from urllib.parse import quote

from ktaskd.door.admission.patience import Alarm
from ktaskd.door.relay.frames import HEADERS, PREFACE, Frames

PENDING_MAX = 32
"""Connections that wait for their answer at the same time; further ones are just closed."""

PATIENCE_S = 1.0
"""Longest wait for the client to begin a call."""

FRAMES_MAX, BYTES_MAX = 100, 16 * 1024
"""Most that the client may send before it begins a call; no account pays for the look at it."""

UNAUTHENTICATED, RESOURCE_EXHAUSTED = 16, 8
"""Source: gRPC's status codes."""

_END_STREAM, _END_HEADERS = 1, 4
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def encode_refusal(stream: int, status: int, message: str) -> bytes:
    """Encode what a gRPC server sends when it answers one call with an error and closes.

    Source: RFC 9113 and 7541 (literals without indexing); gRPC over HTTP/2, "Trailers-Only".
    """
    fields = {
        "content-type": "application/grpc",
        "grpc-status": str(status),
        "grpc-message": quote(message, " "),
    }
    block = b"\x88" + b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    head = len(block).to_bytes(3, "big") + bytes([HEADERS, _END_STREAM | _END_HEADERS])
    goaway = b"\0\0\x08\7\0\0\0\0\0" + stream.to_bytes(4, "big") + bytes(4)
    return head + stream.to_bytes(4, "big") + block + goaway


def _text(text: str) -> bytes:
    """Encode a string without Huffman coding. Source: RFC 7541, section 5.2."""
    data, rest = text.encode("ascii"), len(text) - 127
    if rest < 0:
        return bytes([len(data)]) + data
    length = bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    length.append(rest)
    return bytes(length) + data


@dataclass(slots=True, eq=False)
class _Pending:
    sock: socket.socket
    status: int
    message: str
    frames: Frames
    left: int = FRAMES_MAX
    """Frames that the client may still send."""
    room: int = BYTES_MAX
    """Bytes that the client may still send."""
    timer: Alarm | None = None


class Refusals:
    """Refused connections that wait for their answer. Owns their sockets."""

    def __init__(self) -> None:
        """Start with none."""
        self._pending: set[_Pending] = set()

    def refuse(self, sock: socket.socket, status: int, message: str) -> None:
        """Answer the first call on a connection with an error, and close; owns `sock`."""
        if len(self._pending) >= PENDING_MAX:
            sock.close()
            return
        loop = asyncio.get_running_loop()
        one = _Pending(sock, status, message[:1000], Frames(PREFACE))
        one.timer = Alarm(PATIENCE_S, lambda: self._close(one))
        self._pending.add(one)
        loop.add_reader(sock.fileno(), self._on_readable, one)
        with contextlib.suppress(OSError):
            sock.send(_SETTINGS, socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Close all."""
        for one in list(self._pending):
            self._close(one)

    def _on_readable(self, one: _Pending) -> None:
        try:
            data = one.sock.recv(one.room)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        one.room -= len(data)
        stream = self._call_in(one, data)
        if stream:
            with contextlib.suppress(OSError):
                one.sock.send(encode_refusal(stream, one.status, one.message), socket.MSG_NOSIGNAL)
        if stream or not data or not one.room or not one.left:
            self._close(one)

    def _call_in(self, one: _Pending, data: bytes) -> int:
        """Return the stream of the first call; 0 = none has begun."""
        at = 0
        while at < len(data) and one.left:
            mark, at = one.frames.next(data, at)
            if mark is not None:
                one.left -= 1
                if mark.kind == HEADERS:
                    return mark.stream
        return 0

    def _close(self, one: _Pending) -> None:
        self._pending.discard(one)
        if one.timer is not None:
            one.timer.cancel()
        asyncio.get_running_loop().remove_reader(one.sock.fileno())
        one.sock.close()
