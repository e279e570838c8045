"""Half-open pieces of the position space, and sets of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Half-open piece [start, end) of a job's positions."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of positions; 0 for an empty span."""
        return self.end - self.start


class SpanSet:
    """A set of positions, held as merged, ascending, non-empty spans.

    Adding is O(log n) where spans are added next to existing ones, which is
    how chunks complete; memory grows with the number of gaps, not of chunks.
    """

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        """Start with `spans`, which may overlap."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for span in spans:
            self.add(span.start, span.end)

    def add(self, start: int, end: int) -> None:
        """Add [start, end); what is there already stays."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take [start, end) out; what is not there does no harm."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        pieces = [(self._starts[first], start), (end, self._ends[last - 1])]
        kept = [(a, b) for a, b in pieces if a < b]
        self._starts[first:last] = [a for a, _ in kept]
        self._ends[first:last] = [b for _, b in kept]

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any position of [start, end) is in the set."""
        return start < end and bisect_right(self._ends, start) < bisect_left(self._starts, end)

    def covers(self, start: int, end: int) -> bool:
        """Whether all positions of [start, end) are in the set."""
        first = bisect_right(self._ends, start)
        return start >= end or (
            first < len(self._starts) and self._starts[first] <= start and end <= self._ends[first]
        )

    def intersection(self, start: int, end: int) -> list[Span]:
        """The parts of the set inside [start, end), ascending."""
        if start >= end:
            return []
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        return [
            Span(max(a, start), min(b, end))
            for a, b in zip(self._starts[first:last], self._ends[first:last], strict=True)
        ]

    @property
    def total(self) -> int:
        """Number of positions in the set."""
        return sum(self._ends) - sum(self._starts)

    def __iter__(self) -> Iterator[Span]:
        """The spans, ascending."""
        return (Span(a, b) for a, b in zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        """Number of merged spans."""
        return len(self._starts)

    def __bool__(self) -> bool:
        """Whether there is any position in it."""
        return bool(self._starts)
