"""A SpanSet behaves like a set of integers, in merged spans."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.spans import Span, SpanSet, without

pieces = st.tuples(st.integers(0, 60), st.integers(0, 60))
"""Includes spans whose end is before their start: they are empty."""


def positions(spans: SpanSet) -> set[int]:
    return {position for span in spans for position in range(span.start, span.end)}


@given(st.lists(st.tuples(st.booleans(), pieces), max_size=30), pieces)
def test_span_set_when_changed_then_as_a_set_of_integers(
    changes: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    spans, model = SpanSet(), set[int]()
    for adds, (start, end) in changes:
        (spans.add if adds else spans.remove)(start, end)
        model = model | set(range(start, end)) if adds else model - set(range(start, end))
        assert positions(spans) == model
        assert spans.total == len(model)
        assert bool(spans) == bool(model)
    listed = list(spans)
    assert len(listed) == len(spans)
    assert all(span.length > 0 for span in listed)
    assert all(one.end < other.start for one, other in pairwise(listed)), "merged and ascending"
    start, end = min(asked), max(asked)
    assert positions(SpanSet(spans.intersection(start, end))) == model & set(range(start, end))
    assert spans.overlaps(start, end) == bool(model & set(range(start, end)))
    assert spans.covers(start, end) == (set(range(start, end)) <= model)


@given(st.lists(pieces, max_size=20))
def test_span_set_when_made_from_any_spans_then_their_union(given_pieces: list[tuple[int, int]]) -> None:
    spans = SpanSet(Span(start, end) for start, end in given_pieces)
    assert positions(spans) == {p for start, end in given_pieces for p in range(start, end)}


def test_span_set_when_chunks_complete_side_by_side_then_one_span() -> None:
    spans = SpanSet()
    for start in (0, 20, 10):
        spans.add(start, start + 10)
    assert list(spans) == [Span(0, 30)]
    assert not spans.overlaps(30, 40)


def test_span_set_when_nothing_is_asked_for_then_nothing_is_there() -> None:
    spans = SpanSet([Span(0, 30)])
    assert not spans.overlaps(7, 7)
    assert not spans.overlaps(9, 7)
    assert spans.intersection(7, 7) == []


@given(st.lists(pieces, max_size=12), st.lists(pieces, max_size=12), st.integers(0, 5))
def test_span_set_when_many_are_added_at_once_then_as_one_by_one(
    there: list[tuple[int, int]], added: list[tuple[int, int]], most: int
) -> None:
    at_once = SpanSet(Span(start, end) for start, end in there)
    one_by_one = SpanSet(at_once)
    at_once.add_all(added)
    for start, end in added:
        one_by_one.add(start, end)
    assert list(at_once) == list(one_by_one)
    assert at_once.total == one_by_one.total
    assert at_once.first(most) == tuple(one_by_one)[:most]
    spans = list(one_by_one)
    assert at_once.hull == (Span(spans[0].start, spans[-1].end) if spans else None)
    assert at_once.intersection(10, 50, most) == one_by_one.intersection(10, 50)[:most]


@given(st.lists(pieces, max_size=12), st.lists(pieces, max_size=12))
def test_pieces_when_others_are_cut_out_then_their_difference(
    given_pieces: list[tuple[int, int]], taken: list[tuple[int, int]]
) -> None:
    whole = SpanSet(Span(start, end) for start, end in given_pieces)
    left = without(whole, SpanSet(Span(start, end) for start, end in taken))
    expected = {p for start, end in given_pieces for p in range(start, end)}
    expected -= {p for start, end in taken for p in range(start, end)}
    assert {p for start, end in left for p in range(start, end)} == expected
    assert all(start < end for start, end in left)
