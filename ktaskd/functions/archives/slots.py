"""The layout of a compression's target while the job runs.

    | gap | slot of frame 0 | slot of frame 1 | ... | length and CRC of each, 16 bytes | frames moved |

The gap is as long as one slot and the table that follows the frames, so that a frame that is moved
down never overwrites one that was not moved yet, nor the lengths.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ktaskd.functions.archives.encoders import slot_of
from ktaskd.functions.archives.sums import Sum
from ktaskd.functions.body import OpenSource
from ktaskd.functions.failures import TARGET_CHANGED, Failed
from ktaskd.functions.transfer import truncated, write_full

_WORD, _ENTRY = struct.Struct("<Q"), struct.Struct("<QQ")
_TABLE_ENTRIES = 4096
"""Entries read or written at once."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions of slots and records in the target."""

    size: int
    """Bytes of the source."""
    frame: int
    """Bytes of the source in each frame except the last."""

    @property
    def count(self) -> int:
        """Number of frames."""
        return -(-self.size // self.frame)

    @property
    def slot(self) -> int:
        """Bytes of one slot."""
        return slot_of(self.frame)

    def slot_at(self, index: int) -> int:
        """Position of a slot."""
        gap = self.slot + (self.count + 4) * 16
        return -(-gap // 4096) * 4096 + index * self.slot

    @property
    def lengths_at(self) -> int:
        """Position of the lengths."""
        return self.slot_at(self.count)

    @property
    def moved_at(self) -> int:
        """Position of the number of moved frames."""
        return self.lengths_at + self.count * _ENTRY.size

    @property
    def end(self) -> int:
        """Length of the target."""
        return self.moved_at + _WORD.size

    def size_of(self, index: int) -> int:
        """Bytes of the source in a frame."""
        return min(self.frame, self.size - index * self.frame)


def write_entry(dst: OpenSource, layout: Layout, index: int, frame: Sum) -> None:
    """Record the length and the CRC of a frame."""
    at = layout.lengths_at + index * _ENTRY.size
    write_full(dst, "dst", at, _ENTRY.pack(frame.length, frame.crc))


def write_moved(dst: OpenSource, layout: Layout, count: int) -> None:
    """Record how many frames were moved."""
    write_full(dst, "dst", layout.moved_at, _WORD.pack(count))


def read_moved(dst: OpenSource, layout: Layout) -> int:
    """How many frames were moved; raises Failed for an impossible number."""
    moved: int = _WORD.unpack(_read(dst, layout.moved_at, _WORD.size))[0]
    if moved > layout.count:
        raise written_by_others(f"it records {moved} moved frames of {layout.count}")
    return moved


def packed_length(frame: Sum) -> bytes:
    """The length of a frame as bytes, for the CRC of all lengths."""
    return _WORD.pack(frame.length)


LENGTH_BYTES = _WORD.size


def read_frames(dst: OpenSource, layout: Layout) -> Iterator[Sum]:
    """The lengths and CRCs of all frames, ascending; raises OSError for an impossible length."""
    for first in range(0, layout.count, _TABLE_ENTRIES):
        count = min(_TABLE_ENTRIES, layout.count - first)
        content = _read(dst, layout.lengths_at + first * _ENTRY.size, count * _ENTRY.size)
        for length, crc in _ENTRY.iter_unpack(content):
            if not 0 < length <= layout.slot:
                raise written_by_others(f"it records a frame of {length} bytes (limit {layout.slot})")
            yield Sum(length, crc)


def written_by_others(words: str) -> Failed:
    """The error for a target that is not as the job left it."""
    text = f'source "dst": somebody else has written to it: {words}'
    return Failed(errno.EBADMSG, text, reason=TARGET_CHANGED)


def _read(dst: OpenSource, at: int, count: int) -> bytes:
    content = os.pread(dst.fd, count, at)
    if len(content) < count:
        raise truncated("dst", at + len(content), at + count)
    return content
