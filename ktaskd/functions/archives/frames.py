"""Positions of the frames of a compressed file, and of their content."""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from ktaskd.model.limits import POSITION_MAX

FRAMES_MAX = 1 << 20
"""Limit of the frames that are tracked, at 28 bytes each. One worker decompresses a file with more."""

_BLOCK_MAX, _BLOCK_LEAST = 128 << 10, 4
"""Most bytes that a block of zstd can become, and bytes of the shortest block with any content.
Source: RFC 8878, 3.1.1.2"""

Tick = Callable[[], bool]
"""Reports progress; True = stop."""


class Stopped(Exception):
    """The chunk was recalled."""


class Unreadable(OSError):
    """The source is broken; the text names the position."""

    def __init__(self, at: int, words: str) -> None:
        super().__init__(errno.EBADMSG, f'source "src": at {at}: {words}')


class Astray(Unreadable):
    """No frame begins or ends at a stated position, or a frame does not have its stated length."""


@dataclass(slots=True)
class Frames:
    """Positions of frames, and of their content.

    Args:
        starts, ends: positions in the compressed file.
        places: position of each frame's content in the output, and the end of the last one.
        sure: the frames themselves state all of this. Otherwise something else in the file does,
            such as a seek table; a frame that differs from it is then no broken frame.
        open: the length of the last frame's content is not known; it counts as 0 in `places`.
        checks: XXH64 of each frame's content, the lower 32 bits; empty = not known.
    """

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q", (0,)))
    sure: bool = True
    open: bool = False
    checks: array[int] = field(default_factory=lambda: array("I"))

    def add(self, start: int, end: int, size: int) -> None:
        """Add the next frame; raises Unreadable for an impossible size."""
        if self.places[-1] + size > POSITION_MAX:
            raise Unreadable(start, f"the frame claims to become {size} bytes long")
        self.starts.append(start)
        self.ends.append(end)
        self.places.append(self.places[-1] + size)

    def leave_open(self) -> None:
        """Allow any length for the content of the last frame."""
        self.places[-1] = self.places[-2]
        self.open = True

    @property
    def size(self) -> int:
        """Length of the output; without the last frame if that is open."""
        return self.places[-1]

    def limit(self, number: int) -> int | None:
        """Bytes of a frame's content; None = any number."""
        if self.open and number == len(self.starts) - 1:
            return None
        return self.places[number + 1] - self.places[number]

    def beginning_in(self, start: int, end: int) -> range:
        """Numbers of the frames that begin in [start, end)."""
        return range(bisect_left(self.starts, start), bisect_left(self.starts, end))

    def number_at(self, start: int) -> int | None:
        """Number of the frame that begins at `start`; None if there is none."""
        number = bisect_left(self.starts, start)
        return number if number < len(self.starts) and self.starts[number] == start else None


def most_of(length: int) -> int:
    """Most bytes that `length` bytes of zstd can become."""
    return length // _BLOCK_LEAST * _BLOCK_MAX
