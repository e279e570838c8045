"""Compares two sources byte by byte."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ktaskd.functions.body import Body, Context, Control, Json, OpenSource
from ktaskd.functions.quanta import QUANTUM, READ_BUFFER, cut, make_buffer, pass_over, wipe
from ktaskd.functions.spans import common, gaps
from ktaskd.functions.transfer import Naming, read_full, require_size


class Compare(Body):
    """file.compare."""

    quantum = QUANTUM

    def __init__(self) -> None:
        """Allocate a buffer for each source."""
        self._a = make_buffer(READ_BUFFER)
        self._b = make_buffer(READ_BUFFER)

    def wipe(self) -> None:
        """Erase the buffers."""
        wipe(self._a)
        wipe(self._b)

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Find the first difference in [start, end)."""
        a, b = context.sources["a"], context.sources["b"]
        require_size(a, "a", end)
        for first, after in cut(start, end, QUANTUM):
            if control.quantum(first):
                return first, _part(-1, first - start)
            found = self._difference(a, b, first, after)
            if found >= 0:
                # Differences after this one are not the first.
                reached = pass_over(control, first, end, QUANTUM)
                return reached, _part(found, reached - start)
        longer = context.whole and end == context.span[1] and _is_longer(a, b, end)
        return end, _part(end if longer else -1, end - start)

    def _difference(self, a: OpenSource, b: OpenSource, start: int, end: int) -> int:
        """The first position in [start, end) where they differ, -1 if there is none."""
        stop = min(end, max(start, b.size()))
        for first, after in gaps(_holes_of_both(a, b, start, stop), start, stop):
            for piece, piece_end in cut(first, after, READ_BUFFER):
                found = self._compare(a, b, piece, piece_end)
                if found >= 0:
                    return found
        # A source reads as a hole beyond its end, so check that it has not just become shorter.
        require_size(a, "a", end)
        stop = min(stop, max(start, b.size()))
        return stop if stop < end else -1

    def _compare(self, a: OpenSource, b: OpenSource, start: int, end: int) -> int:
        """The first difference in at most one buffer, -1 if there is none."""
        with memoryview(self._a)[: end - start] as view:
            read_full(a, "a", start, view)
        with memoryview(self._b)[: end - start] as view:
            count = _read(b, start, view)
            # startswith compares in place; comparing two views goes byte by byte.
            if self._a.startswith(view[:count]):
                return start + count if count < end - start else -1
            return start + _first_difference(self._a, view[:count])

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The lowest difference; without parts, whether b is empty as well if all was compared."""
        if not parts:
            a, b = context.sources["a"], context.sources["b"]
            return _part(0 if context.whole and _is_longer(a, b, 0) else -1, 0)
        found = [part["first_difference"] for part in parts if not part["equal"]]
        return _part(min(found, default=-1), sum(part["bytes"] for part in parts))


def _part(difference: int, count: int) -> Json:
    return {"equal": difference < 0, "first_difference": difference, "bytes": count}


def _holes_of_both(a: OpenSource, b: OpenSource, start: int, end: int) -> list[tuple[int, int]]:
    """Parts of [start, end) that are holes in both; none if the holes of either are not known."""
    holes = a.holes(start, end)
    if not holes:
        return []
    return common(holes, b.holes(start, end) or [])


def _is_longer(a: OpenSource, b: OpenSource, end: int) -> bool:
    """Whether b is longer than a.

    Raises:
        OSError: the length of a has changed since the job began.
    """
    size = a.size()
    if size != end:
        words = f'source "a": changed its length while it was compared, from {end} to {size} bytes'
        raise OSError(errno.ESTALE, words)
    return b.size() > end


def _read(source: OpenSource, start: int, view: memoryview) -> int:
    """Read b into `view`, or as much as b has; returns the number of bytes."""
    done = 0
    while done < len(view):
        with view[done:] as rest, Naming("b", "read", start + done, start + len(view)):
            count = os.preadv(source.fd, [rest], start + done)
        if count == 0:
            break
        done += count
    return done


def _first_difference(left: bytearray, right: memoryview) -> int:
    """The first position where the two differ, found by bisection; they do differ."""
    first, after = 0, len(right)
    while after - first > 1:
        middle = (first + after) // 2
        if left.startswith(right[first:middle], first):
            first = middle
        else:
            after = middle
    return first
