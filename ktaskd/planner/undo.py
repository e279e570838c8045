"""Cuts the undo of a job into steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ktaskd.model.spans import Span, SpanSet

HOLES_PER_STEP = 1000
"""Limit of the holes in one step; that many fit a frame."""


@dataclass(frozen=True, slots=True)
class UndoStep:
    """One call of undo: [start, end) and the former holes in it."""

    start: int
    end: int
    holes: tuple[tuple[int, int], ...]


def undo_steps(done: SpanSet, holes: SpanSet) -> Iterator[UndoStep]:
    """Steps that undo exactly `done`: merged, ascending, each position once.

    There is one step for each merged span, or several if the span has more holes than fit in a
    message. Each step is made on demand: all of them at once would take seconds, and several times
    the memory of the holes. Neither set may change before the last step is taken.

    Source of the order: ktask_undo, v4.
    """
    for span in done:
        yield from _steps_of(span, holes)


def _steps_of(span: Span, holes: SpanSet) -> Iterator[UndoStep]:
    start, is_last = span.start, False
    while not is_last:
        # One hole more than fits tells whether another step follows.
        batch = holes.intersection(start, span.end, HOLES_PER_STEP + 1)
        is_last = len(batch) <= HOLES_PER_STEP
        batch = batch[:HOLES_PER_STEP]
        end = span.end if is_last else batch[-1].end
        yield UndoStep(start, end, tuple((hole.start, hole.end) for hole in batch))
        start = end
