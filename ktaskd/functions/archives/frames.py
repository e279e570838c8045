"""Where the frames of a compressed file are, and what each of them becomes."""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from ktaskd.model.limits import POSITION_MAX

FRAMES_MAX = 1 << 20
"""Kept track of: 28 bytes each. One worker decompresses a file with more."""

_BLOCK_MAX, _BLOCK_LEAST = 128 << 10, 4
"""Bytes that a block of zstd becomes at most, and those of the shortest one that becomes any.
Source: RFC 8878, 3.1.1.2"""

Tick = Callable[[], bool]
"""Says that there is life in it; True = stop."""


class Stopped(Exception):
    """The chunk is wanted back."""


class Unreadable(OSError):
    """The source is not what it should be; the text says where."""

    def __init__(self, at: int, words: str) -> None:
        super().__init__(errno.EBADMSG, f'source "src": at {at}: {words}')


class Astray(Unreadable):
    """No frame begins or ends where one should, or a frame becomes longer or shorter than it should."""


@dataclass(slots=True)
class Frames:
    """Where frames are, and where what they hold goes to.

    Args:
        starts, ends: in the compressed file.
        places: of each in what was compressed, and where the last one ends.
        sure: the frames themselves say all of this. Otherwise something else in the file does,
            as a seek table: frames that are not as it says are no error of the frames.
        open: the length of the last frame is not known; its place has a length of 0.
        checks: XXH64 of what each frame becomes, the lower 32 bits; empty = not known.
    """

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q", (0,)))
    sure: bool = True
    open: bool = False
    checks: array[int] = field(default_factory=lambda: array("I"))

    def add(self, start: int, end: int, size: int) -> None:
        """The next one; raises Unreadable where it says what cannot be."""
        if self.places[-1] + size > POSITION_MAX:
            raise Unreadable(start, f"says that it becomes {size} bytes long")
        self.starts.append(start)
        self.ends.append(end)
        self.places.append(self.places[-1] + size)

    def leave_open(self) -> None:
        """The last one may become as long as it does."""
        self.places[-1] = self.places[-2]
        self.open = True

    @property
    def size(self) -> int:
        """Of what was compressed; without the last frame where that is open."""
        return self.places[-1]

    def limit(self, number: int) -> int | None:
        """Bytes that a frame has to become; None = any number."""
        if self.open and number == len(self.starts) - 1:
            return None
        return self.places[number + 1] - self.places[number]

    def beginning_in(self, start: int, end: int) -> range:
        """Numbers of those that begin in [start, end)."""
        return range(bisect_left(self.starts, start), bisect_left(self.starts, end))

    def number_at(self, start: int) -> int | None:
        """Number of the frame that begins there."""
        number = bisect_left(self.starts, start)
        return number if number < len(self.starts) and self.starts[number] == start else None


def most_of(length: int) -> int:
    """Bytes that so many bytes of zstd become at most."""
    return length // _BLOCK_LEAST * _BLOCK_MAX
