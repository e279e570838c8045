"""What has to be undone, in which steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ktaskd.model.spans import Span, SpanSet

HOLES_PER_STEP = 1000
"""Holes told to a worker at one time; encoded they stay below one frame."""


@dataclass(frozen=True, slots=True)
class UndoStep:
    """One call of undo: [start, end) and the holes that were in it before."""

    start: int
    end: int
    holes: tuple[tuple[int, int], ...]


def undo_steps(done: SpanSet, holes: SpanSet) -> list[UndoStep]:
    """Steps that undo exactly `done`: merged, ascending, each position once.

    One step for each merged span, unless it had more holes than one message
    can hold. Source of the order: ktask_undo, v4.
    """
    return [step for span in done for step in _steps_of(span, holes.intersection(span.start, span.end))]


def _steps_of(span: Span, holes: Sequence[Span]) -> list[UndoStep]:
    steps: list[UndoStep] = []
    start = span.start
    for i in range(0, max(len(holes), 1), HOLES_PER_STEP):
        batch = holes[i : i + HOLES_PER_STEP]
        is_last = i + HOLES_PER_STEP >= len(holes)
        end = span.end if is_last else batch[-1].end
        steps.append(UndoStep(start, end, tuple((hole.start, hole.end) for hole in batch)))
        start = end
    return steps
