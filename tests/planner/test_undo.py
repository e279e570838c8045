"""An undo covers the completed chunks, ascending, each position once."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.spans import Span, SpanSet
from ktaskd.planner import undo
from ktaskd.planner.undo import HOLES_PER_STEP, undo_steps

spans = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30)), max_size=25).map(
    lambda pieces: SpanSet(Span(start, start + length) for start, length in pieces)
)


def positions(pieces: list[tuple[int, int]]) -> list[int]:
    return [position for start, end in pieces for position in range(start, end)]


@given(done=spans, holes=spans, per_step=st.integers(1, 3))
def test_undo_when_planned_then_each_completed_position_once_with_its_holes(
    done: SpanSet, holes: SpanSet, per_step: int
) -> None:
    with patch.object(undo, "HOLES_PER_STEP", per_step):
        steps = list(undo_steps(done, holes))
    assert positions([(step.start, step.end) for step in steps]) == positions(
        [(span.start, span.end) for span in done]
    )
    assert all(step.start < step.end for step in steps)
    assert all(one.end <= other.start for one, other in pairwise(steps))
    sent = [hole for step in steps for hole in step.holes]
    wanted = [hole for span in done for hole in holes.intersection(span.start, span.end)]
    assert sent == [(hole.start, hole.end) for hole in wanted]
    for step in steps:
        assert len(step.holes) <= per_step
        assert all(step.start <= start < end <= step.end for start, end in step.holes)


def test_undo_when_no_span_has_many_holes_then_one_step_for_each() -> None:
    done = SpanSet([Span(0, 10), Span(10, 20), Span(40, 50)])
    assert [(step.start, step.end) for step in undo_steps(done, SpanSet())] == [(0, 20), (40, 50)]


def test_undo_when_a_span_has_more_holes_than_a_frame_then_several_steps() -> None:
    holes = SpanSet(Span(2 * i, 2 * i + 1) for i in range(2 * HOLES_PER_STEP + 1))
    steps = list(undo_steps(SpanSet([Span(0, 10 * HOLES_PER_STEP)]), holes))
    assert [len(step.holes) for step in steps] == [HOLES_PER_STEP, HOLES_PER_STEP, 1]
    assert steps[-1].end == 10 * HOLES_PER_STEP
