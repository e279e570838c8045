"""Which calls begin and end in the bytes of one direction of an HTTP/2 connection. No I/O.

Only the frame headers are read, nine bytes each. HTTP header fields are not decoded.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""First bytes of a client. Source: RFC 9113, section 3.4."""

DATA, HEADERS, RST_STREAM = 0, 1, 3
END_STREAM, END_HEADERS = 1, 4
"""Kinds and a flag of frames. Source: RFC 9113, section 6."""

_HEAD = struct.Struct(">HBBBI")
_HEAD_BYTES = 9


class Mark(NamedTuple):
    """The header of a frame.

    Args:
        offset: where it begins in the current piece; 0 if it began before that.
        stream: number of its call, unique in the connection.
        size: bytes of its payload.
    """

    offset: int
    kind: int
    flags: int
    stream: int
    size: int = 0

    @property
    def opens(self) -> bool:
        """Whether it begins a call, or ends one that has begun already."""
        return self.kind == HEADERS

    @property
    def ends(self) -> bool:
        """Whether the sender of the frame sends nothing more in this call."""
        if self.kind == RST_STREAM:
            return True
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


class Frames:
    """Finds the frame headers in a stream that arrives in pieces.

    Args:
        preface: expected before the first frame. A stream that begins with
            anything else has no frames, so it never begins a call.
    """

    __slots__ = ("_head", "_left", "_preface")

    def __init__(self, preface: bytes = b"") -> None:
        """Start at the beginning of the stream."""
        self._preface = preface
        self._head = b""
        self._left = 0

    @property
    def inside(self) -> bool:
        """Whether part of the last frame's payload has not arrived."""
        return self._left > 0

    def next(self, data: memoryview | bytes, at: int) -> tuple[Mark | None, int]:
        """Return the next frame header in a piece, and the offset behind it.

        Args:
            at: where to continue: 0 for a new piece, then the offset returned before.
        Returns:
            None and the size of the piece when it contains no further header.
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
        """Return how many bytes of `data` belong to the preface; anything else makes it ignore the stream."""
        wanted = self._preface[: len(data)]
        if data[: len(wanted)] != wanted:
            self._left = 1 << 63  # the rest of the stream
            self._preface = b""
            return 0
        self._preface = self._preface[len(wanted) :]
        return len(wanted)
