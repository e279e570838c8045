"""Half-open spans of positions, and sets of them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

SPAN_BYTES = 16
"""Memory of one span of a set."""

_NONE = array("q")
"""Shared by all sets to which nothing was added yet. Never changed."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open span [start, end) of a job's positions."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of positions; 0 for an empty span."""
        return self.end - self.start


class SpanSet:
    """A set of positions, held as merged, ascending, non-empty spans.

    Adding a span next to an existing one is O(log n), and chunks mostly complete that way. Memory
    grows with the number of gaps, not of chunks: SPAN_BYTES for each. Positions are at least 0 and
    at most POSITION_MAX.
    """

    __slots__ = ("_ends", "_starts", "_total")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        """Begin with `spans`, which may overlap."""
        self._starts = self._ends = _NONE
        self._total = 0
        for span in spans:
            self.add(span.start, span.end)

    def add(self, start: int, end: int) -> None:
        """Add [start, end); positions may be in the set already."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._replace(first, last, [start], [end])

    def add_all(self, pieces: Iterable[Sequence[int]]) -> None:
        """Add many pieces in any order, at the cost of one if they are neighbours.

        Adding a thousand pieces one by one to a large set would move the rest of the set a
        thousand times.
        """
        ordered = sorted((start, end) for start, end in pieces if start < end)
        if not ordered:
            return
        first = bisect_left(self._ends, ordered[0][0])
        last = bisect_right(self._starts, max(end for _, end in ordered))
        there = zip(self._starts[first:last], self._ends[first:last], strict=True)
        starts: list[int] = []
        ends: list[int] = []
        for start, end in sorted([*there, *ordered]) if first < last else ordered:
            if ends and start <= ends[-1]:
                ends[-1] = max(ends[-1], end)
            else:
                starts.append(start)
                ends.append(end)
        self._replace(first, last, starts, ends)

    def remove(self, start: int, end: int) -> None:
        """Remove [start, end); positions may be missing from the set already."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        pieces = [(self._starts[first], start), (end, self._ends[last - 1])]
        kept = [(a, b) for a, b in pieces if a < b]
        self._replace(first, last, [a for a, _ in kept], [b for _, b in kept])

    def _replace(self, first: int, last: int, starts: list[int], ends: list[int]) -> None:
        """Replace the spans from `first` to before `last`."""
        before = sum(self._ends[first:last]) - sum(self._starts[first:last])
        self._total += sum(ends) - sum(starts) - before
        if self._starts is _NONE:
            self._starts, self._ends = array("q"), array("q")
        if first == len(self._starts):  # the usual case, handled without a slice
            self._starts.extend(starts)
            self._ends.extend(ends)
        else:
            self._starts[first:last] = array("q", starts)
            self._ends[first:last] = array("q", ends)

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any position of [start, end) is in the set."""
        return start < end and bisect_right(self._ends, start) < bisect_left(self._starts, end)

    def covers(self, start: int, end: int) -> bool:
        """Whether all positions of [start, end) are in the set."""
        first = bisect_right(self._ends, start)
        return start >= end or (
            first < len(self._starts) and self._starts[first] <= start and end <= self._ends[first]
        )

    def intersection(self, start: int, end: int, most: int | None = None) -> list[Span]:
        """The parts of the set inside [start, end), ascending; at most `most` of them if given."""
        if start >= end:
            return []
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if most is not None:
            last = min(last, first + most)
        return [
            Span(max(a, start), min(b, end))
            for a, b in zip(self._starts[first:last], self._ends[first:last], strict=True)
        ]

    def first(self, most: int) -> tuple[Span, ...]:
        """The first `most` spans, ascending."""
        return tuple(islice(self, most))

    @property
    def hull(self) -> Span | None:
        """The smallest span around all positions of the set; None for an empty set."""
        return Span(self._starts[0], self._ends[-1]) if self._starts else None

    @property
    def total(self) -> int:
        """Number of positions in the set."""
        return self._total

    def __iter__(self) -> Iterator[Span]:
        """The spans, ascending."""
        return (Span(a, b) for a, b in zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        """Number of merged spans."""
        return len(self._starts)

    def __bool__(self) -> bool:
        """Whether the set has any position."""
        return bool(self._starts)


def without(pieces: Iterable[Span], taken: Iterable[Span]) -> list[tuple[int, int]]:
    """Cut `taken` out of `pieces`, in linear time; both must be ascending and disjoint."""
    left: list[tuple[int, int]] = []
    cuts = iter(taken)
    cut = next(cuts, None)
    for piece in pieces:
        start, end = piece.start, piece.end
        while cut is not None and cut.end <= start:
            cut = next(cuts, None)
        while cut is not None and cut.start < end and start < end:
            left.append((start, cut.start))
            start = max(start, cut.end)
            if cut.end >= end:
                break
            cut = next(cuts, None)
        left.append((start, end))
    return [(start, end) for start, end in left if start < end]
