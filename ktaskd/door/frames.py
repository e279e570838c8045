"""Which calls begin and end in the bytes of one direction of an HTTP/2 connection. No I/O.

Only the heads of frames are looked at: nine bytes each, no header is decoded.
"""

from __future__ import annotations

from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first. Source: RFC 9113, section 3.4."""

DATA, HEADERS, RST_STREAM = 0, 1, 3
END_STREAM = 1
"""Kinds and a flag of frames. Source: RFC 9113, section 6."""

_HEAD_BYTES = 9
_SEEN = frozenset({DATA, HEADERS, RST_STREAM})


class Mark(NamedTuple):
    """A frame that may begin or end a call.

    Args:
        offset: where it begins in the bytes at hand; 0 if it began before them.
        stream: its call, by a number that no other call of the connection has.
    """

    offset: int
    kind: int
    flags: int
    stream: int

    @property
    def opens(self) -> bool:
        """Whether it begins a call, unless that has begun already (then it ends it)."""
        return self.kind == HEADERS

    @property
    def ends(self) -> bool:
        """Whether nothing more comes of the call from who sent this."""
        return self.kind == RST_STREAM or bool(self.flags & END_STREAM)


class Frames:
    """Finds the marks in a stream that comes in pieces.

    Args:
        preface: what comes before the first frame. A stream that begins with
            anything else has no marks: whatever it is, it is no call.
    """

    __slots__ = ("_head", "_left", "_preface")

    def __init__(self, preface: bytes = b"") -> None:
        """At the begin of the stream."""
        self._preface = preface
        self._head = b""
        self._left = 0

    def feed(self, data: memoryview) -> list[Mark]:
        """The marks in the next piece, ascending."""
        found: list[Mark] = []
        at, size = self._skip_preface(data), len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            start = at  # or before this piece, where it began in the last one
            head = self._head + bytes(data[at : at + _HEAD_BYTES - len(self._head)])
            at += len(head) - len(self._head)
            if len(head) < _HEAD_BYTES:
                self._head = head
                break
            self._head, self._left = b"", int.from_bytes(head[:3], "big")
            if head[3] in _SEEN:
                found.append(Mark(start, head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF))
        return found

    def _skip_preface(self, data: memoryview) -> int:
        """How many bytes at the begin of `data` are still of the preface; all where it is none."""
        wanted = self._preface[: len(data)]
        if not wanted:
            return 0
        if data[: len(wanted)] != wanted:
            self._left = 1 << 63  # for ever
            self._preface = b""
            return 0
        self._preface = self._preface[len(wanted) :]
        return len(wanted)
