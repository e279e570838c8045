"""One connection of HTTP/2, made by hand, which can do what gRPC's own client cannot."""

from __future__ import annotations

import contextlib
import select
import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, UNKNOWN = 0, 1, 3, 4, 6, 8, 0xFA
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME_BYTES = 16384
UNSENT_MAX = 1 << 16


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def message(data: bytes, claim: int = -1) -> bytes:
    return b"\0" + struct.pack(">I", len(data) if claim < 0 else claim) + data


def text(value: str) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value.encode()


def headers(path: str) -> bytes:
    fields = (("te", "trailers"), ("content-type", "application/grpc"))
    block = b"\x83\x86\x04" + text(path) + b"\x01" + text("localhost")
    return block + b"".join(b"\0" + text(name) + text(value) for name, value in fields)


class Connection:
    """One connection. It reads what the server sends, and keeps DATA by stream."""

    def __init__(self, place: str, *, window: int = 65535) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(f"{place}/ktaskd.sock")
        self.sock.setblocking(False)
        self.out = bytearray(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)))
        self.stream = -1
        self.window = self.initial = 65535
        self.windows: dict[int, int] = {}
        self.got: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.dead = False
        self._in = b""

    def open(self, path: str, *, request: bytes = b"", end: bool = False) -> int:
        self.stream += 2
        self.windows[self.stream] = self.initial
        self.out += frame(HEADERS, END_HEADERS, self.stream, headers(path))
        if request or end:
            self.out += frame(DATA, END_STREAM if end else 0, self.stream, request)
        return self.stream

    def push(self, stream: int, data: bytes) -> int:
        """Send as much of a request as flow control allows; return how much."""
        size = min(len(data), self.windows.get(stream, 0), self.window, FRAME_BYTES)
        if size > 0:
            self.out += frame(DATA, 0, stream, data[:size])
            self.windows[stream] -= size
            self.window -= size
        return max(size, 0)

    @property
    def full(self) -> bool:
        return len(self.out) > UNSENT_MAX

    def pump(self, wait_s: float = 0.0) -> None:
        """Send and receive as much as possible."""
        if self.dead:
            return
        readable, writable, _ = select.select([self.sock], [self.sock] if self.out else [], [], wait_s)
        try:
            if writable:
                with contextlib.suppress(BlockingIOError):
                    del self.out[: self.sock.send(self.out)]
            if readable:
                data = self.sock.recv(1 << 18)
                self.dead = not data
                self._parse(data)
        except OSError:
            self.dead = True

    def _parse(self, data: bytes) -> None:
        self._in += data
        at = 0
        while len(self._in) - at >= 9:
            size = int.from_bytes(self._in[at : at + 3], "big")
            if len(self._in) - at < 9 + size:
                break
            kind, flags = self._in[at + 3], self._in[at + 4]
            stream = int.from_bytes(self._in[at + 5 : at + 9], "big")
            self._on_frame(kind, flags, stream, self._in[at + 9 : at + 9 + size])
            at += 9 + size
        self._in = self._in[at:]

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for i in range(0, len(payload), 6):
                key, value = struct.unpack_from(">HI", payload, i)
                if key == 4:
                    self.windows = {one: left + value - self.initial for one, left in self.windows.items()}
                    self.initial = value
            self.out += frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self.out += frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            value = int.from_bytes(payload, "big")
            if not stream:
                self.window += value
            elif stream in self.windows:
                self.windows[stream] += value
        elif kind == DATA:
            self.got.setdefault(stream, bytearray()).extend(payload)
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended.add(stream)

    def call(self, path: str, request: bytes) -> bytes:
        """Make one call, to its end."""
        stream = self.open(path, request=message(request), end=True)
        self.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24))
        self.out += frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 24))
        while stream not in self.ended and not self.dead:
            self.pump(0.1)
        return bytes(self.got.get(stream, b""))[5:]
