"""Where the target of a compression has what, while it is made.

    | room | slot of frame 0 | slot of frame 1 | ... | length and CRC of each, 16 bytes | frames moved |

The room is one slot and the table that follows the frames: a frame that is moved down never
meets one that was not, nor the lengths.
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
from ktaskd.functions.quanta import truncated, write_full

_WORD, _ENTRY = struct.Struct("<Q"), struct.Struct("<QQ")
_TABLE_ENTRIES = 4096
"""Read or written at one time."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in the target what is, while it is made."""

    size: int
    """Of the source."""
    frame: int

    @property
    def count(self) -> int:
        """Frames."""
        return -(-self.size // self.frame)

    @property
    def slot(self) -> int:
        """Bytes of one slot."""
        return slot_of(self.frame)

    def slot_at(self, index: int) -> int:
        """Where a slot begins."""
        room = self.slot + (self.count + 4) * 16
        return -(-room // 4096) * 4096 + index * self.slot

    @property
    def lengths_at(self) -> int:
        """Where the lengths are."""
        return self.slot_at(self.count)

    @property
    def moved_at(self) -> int:
        """Where it says how many frames were moved."""
        return self.lengths_at + self.count * _ENTRY.size

    @property
    def end(self) -> int:
        """How long the target is meanwhile."""
        return self.moved_at + _WORD.size

    def size_of(self, index: int) -> int:
        """Bytes of the source in a frame."""
        return min(self.frame, self.size - index * self.frame)


def write_entry(dst: OpenSource, layout: Layout, index: int, frame: Sum) -> None:
    """Write down how long a frame became, and its CRC."""
    at = layout.lengths_at + index * _ENTRY.size
    write_full(dst, "dst", at, _ENTRY.pack(frame.length, frame.crc))


def write_moved(dst: OpenSource, layout: Layout, count: int) -> None:
    """Write down how many frames were moved."""
    write_full(dst, "dst", layout.moved_at, _WORD.pack(count))


def read_moved(dst: OpenSource, layout: Layout) -> int:
    """How many frames were moved; raises Failed for what cannot be."""
    moved: int = _WORD.unpack(_read(dst, layout.moved_at, _WORD.size))[0]
    if moved > layout.count:
        raise written_by_others(f"{moved} frames were moved, wanted at most {layout.count}")
    return moved


def packed_length(frame: Sum) -> bytes:
    """Its length as bytes, by which lengths are known again."""
    return _WORD.pack(frame.length)


LENGTH_BYTES = _WORD.size


def read_frames(dst: OpenSource, layout: Layout) -> Iterator[Sum]:
    """The lengths and CRCs of all frames, ascending; raises OSError for one that cannot be."""
    for first in range(0, layout.count, _TABLE_ENTRIES):
        count = min(_TABLE_ENTRIES, layout.count - first)
        content = _read(dst, layout.lengths_at + first * _ENTRY.size, count * _ENTRY.size)
        for length, crc in _ENTRY.iter_unpack(content):
            if not 0 < length <= layout.slot:
                raise written_by_others(f"a frame of {length} bytes, wanted 1 to {layout.slot}")
            yield Sum(length, crc)


def written_by_others(words: str) -> Failed:
    """The error of a target that is not as the job left it."""
    text = f'source "dst": somebody has written into it: {words}'
    return Failed(errno.EBADMSG, text, reason=TARGET_CHANGED)


def _read(dst: OpenSource, at: int, count: int) -> bytes:
    content = os.pread(dst.fd, count, at)
    if len(content) < count:
        raise truncated("dst", at + len(content), at + count)
    return content
