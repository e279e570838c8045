"""Which calls begin and end in the bytes of one direction of an HTTP/2 connection. No I/O.

Only the heads of frames are looked at: nine bytes each, no header is decoded.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first. Source: RFC 9113, section 3.4."""

DATA, HEADERS, RST_STREAM = 0, 1, 3
END_STREAM, END_HEADERS = 1, 4
"""Kinds and a flag of frames. Source: RFC 9113, section 6."""

_HEAD = struct.Struct(">HBBBI")
_HEAD_BYTES = 9


class Mark(NamedTuple):
    """The head of a frame.

    Args:
        offset: where it begins in the bytes at hand; 0 if it began before them.
        stream: its call, by a number that no other call of the connection has.
        size: bytes of its payload.
    """

    offset: int
    kind: int
    flags: int
    stream: int
    size: int = 0

    @property
    def opens(self) -> bool:
        """Whether it begins a call, unless that has begun already (then it ends it)."""
        return self.kind == HEADERS

    @property
    def ends(self) -> bool:
        """Whether nothing more comes of the call from whoever sent this."""
        if self.kind == RST_STREAM:
            return True
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


class Frames:
    """Finds the heads in a stream that comes in pieces.

    Args:
        preface: what comes before the first frame. A stream that begins with
            anything else has no frames: whatever it is, it is no call.
    """

    __slots__ = ("_head", "_left", "_preface")

    def __init__(self, preface: bytes = b"") -> None:
        """At the begin of the stream."""
        self._preface = preface
        self._head = b""
        self._left = 0

    @property
    def inside(self) -> bool:
        """Whether payload of the last frame is still to come."""
        return self._left > 0

    def next(self, data: memoryview | bytes, at: int) -> tuple[Mark | None, int]:
        """The next head in a piece, and the offset behind it.

        Args:
            at: where to go on: 0 for a new piece, then what was returned.
        Returns:
            None and the size of the piece when there is no further one in it.
        """
        size = len(data)
        if self._preface:
            at += self._skip_preface(data[at:])
        left = self._left
        if left >= size - at:
            self._left = left - (size - at)
            return None, size
        at += left
        self._left = 0
        if not self._head and size - at >= _HEAD_BYTES:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            self._left = left = high << 8 | low
            return Mark(at, kind, flags, stream & 0x7FFFFFFF, left), at + _HEAD_BYTES
        known = len(self._head)
        head = self._head + bytes(data[at : at + _HEAD_BYTES - known])
        start, at = at, at + len(head) - known
        if len(head) < _HEAD_BYTES:
            self._head = head
            return None, at
        self._head, self._left = b"", int.from_bytes(head[:3], "big")
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        return Mark(start, head[3], head[4], stream, self._left), at

    def _skip_preface(self, data: memoryview | bytes) -> int:
        """How many bytes at the begin of `data` are still of the preface; all where it is none."""
        wanted = self._preface[: len(data)]
        if data[: len(wanted)] != wanted:
            self._left = 1 << 63  # for ever
            self._preface = b""
            return 0
        self._preface = self._preface[len(wanted) :]
        return len(wanted)
