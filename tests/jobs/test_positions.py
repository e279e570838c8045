"""Each position of a job is in exactly one place, whatever comes.

Guards: I1
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ktaskd.jobs.positions import NOTHING_LEFT, Positions
from ktaskd.model.function import Declaration, Partial
from ktaskd.model.limits import SPANS_LISTED
from ktaskd.model.spans import Span
from ktaskd.planner.cursor import Chunk
from ktaskd.planner.plan import NodePart, Plan
from ktaskd.planner.undo import UndoStep

TOTAL = 60

declarations = st.builds(
    Declaration,
    st.just("any"),
    st.just("Anything."),
    partial=st.sampled_from(Partial),
    writes_bytes=st.booleans(),
    reports=st.booleans(),
)
pieces = st.tuples(st.integers(0, TOTAL), st.integers(0, TOTAL))
ordered = pieces.map(lambda pair: (min(pair), max(pair)))
fractions = st.integers(0, 10)
parts_of = st.lists(st.tuples(fractions, fractions), max_size=3)


def inside(chunk: Chunk | UndoStep | Span, tenths: int) -> int:
    return chunk.start + (chunk.end - chunk.start) * tenths // 10


def each(spans: Iterable[Span]) -> set[int]:
    return {position for span in spans for position in range(span.start, span.end)}


class Books(RuleBasedStateMachine):
    """Does anything that a job may do, and keeps the place of each position in a set of its own."""

    @initialize(
        declaration=declarations,
        undo=st.booleans(),
        cuts=st.sets(st.integers(1, TOTAL - 1), max_size=3),
        takes=st.integers(0, 8),
    )
    def begin(self, declaration: Declaration, undo: bool, cuts: set[int], takes: int) -> None:
        self.takes = takes
        """It is not stopped before it was asked for this many chunks."""
        edges = [0, *sorted(cuts), TOTAL]
        shares = tuple(NodePart(a, b) for a, b in pairwise(edges))
        self.function, self.undo = declaration, undo
        self.books = Positions(Plan(shares, 2, 10, 1, 1, 1), declaration, undo=undo)
        self.held: list[Chunk] = []
        self.waiting = set(range(TOTAL))
        self.done: set[int] = set()
        self.failed: set[int] = set()
        self.lost: set[int] = set()
        self.dropped: set[int] = set()
        self.touched: set[int] = set()
        self.closed = self.undoes = False
        self.step: UndoStep | None = None
        self.holes: set[int] = set()
        self.reported: set[int] = set()

    def _free(self, positions: set[int]) -> None:
        (self.dropped if self.closed else self.waiting).update(positions)

    # -- while it runs

    running = precondition(lambda self: not self.undoes)
    holding = precondition(lambda self: self.held and not self.undoes)

    @running
    @rule(size=st.integers(1, 25), nid=st.integers(-1, 1))
    def take(self, size: int, nid: int) -> None:
        self.takes -= 1
        chunk = self.books.take(size, nid, lead=True, has_free=lambda _: False)
        assert (chunk is None) == (not self.waiting)
        if chunk is not None:
            taken = set(range(chunk.start, chunk.end))
            assert taken <= self.waiting, "given out twice"
            self.waiting -= taken
            self.held.append(chunk)

    def _drop(self, data: st.DataObject) -> Chunk:
        return self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @holding
    @rule(data=st.data(), tenths=fractions)
    def complete(self, data: st.DataObject, tenths: int) -> None:
        chunk = self._drop(data)
        reached = inside(chunk, tenths)
        self.books.complete(chunk, reached)
        self.done.update(range(chunk.start, reached))
        self._free(set(range(reached, chunk.end)))

    @holding
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        chunk = self._drop(data)
        self.books.give_back(chunk)
        self._free(set(range(chunk.start, chunk.end)))

    @holding
    @rule(data=st.data(), dirty=st.lists(pieces, max_size=2))
    def fail(self, data: st.DataObject, dirty: list[tuple[int, int]]) -> None:
        chunk = self._drop(data)
        self.books.fail(chunk, dirty)
        self.failed.update(range(chunk.start, chunk.end))

    @holding
    @rule(data=st.data(), retried=st.booleans(), undoing=st.booleans())
    def die(self, data: st.DataObject, retried: bool, undoing: bool) -> None:
        chunk = self._drop(data)
        positions = set(range(chunk.start, chunk.end))
        self.books.note_touched(chunk, undoing=undoing)
        partial = self.function.partial
        if partial is Partial.RERUN_SAFE or (partial is Partial.UNDO_TOLERATES and not undoing):
            self.touched |= positions & self.reported if self.function.reports else positions
        elif self.function.writes_bytes:
            assert positions <= each(self.books.dirty)
        if retried:
            self.books.give_back(chunk)
            self._free(positions)
        else:
            self.books.lose(chunk)
            self.lost |= positions

    @running
    @rule()
    def close(self) -> None:
        self.books.close()
        self.closed = True
        self.dropped |= self.waiting
        self.waiting = set()

    @running
    @rule(
        span=pieces.map(lambda pair: (min(pair), max(pair))),
        parts=parts_of,
        may=st.booleans(),
    )
    def report(self, span: tuple[int, int], parts: list[tuple[int, int]], may: bool) -> None:
        holes = [(inside(Span(*span), a), inside(Span(*span), b)) for a, b in parts]
        self.books.report_prior(*span, holes, lambda _: may)
        if may:
            self.holes |= {p for a, b in holes for p in range(a, b)} - self.reported
        self.reported |= set(range(*span))

    # -- when it is undone

    @precondition(lambda self: self.takes <= 0 and not self.held and not self.undoes)
    @rule()
    def begin_undo(self) -> None:
        before = each(self.books.dirty)
        self.books.begin_undo()
        self.undoes = True
        changed = self.done | self.touched
        self.to_undo = changed if self.undo else set()
        self.undone: set[int] = set()
        self.kept = changed if self.function.writes_bytes and not self.undo else set()
        self.changed = self.to_undo | self.kept
        self.stays = self.done - self.changed
        self.named = before

    @precondition(lambda self: self.undoes and self.step is None)
    @rule()
    def next_undo(self) -> None:
        self.step = self.books.next_undo()
        if self.step is None:
            assert not self.to_undo
        else:
            given = set(range(self.step.start, self.step.end))
            assert given <= self.to_undo, "undone twice"
            assert min(given) == min(self.to_undo), "not ascending"
            assert {p for a, b in self.step.holes for p in range(a, b)} == given & self.holes
            self.to_undo -= given

    @precondition(lambda self: self.step is not None)
    @rule(kept=st.lists(st.tuples(fractions, fractions), max_size=2))
    def put_back(self, kept: list[tuple[int, int]]) -> None:
        assert self.step is not None
        step, self.step = self.step, None
        spans = [(inside(step, a), inside(step, b)) for a, b in kept]
        self.books.put_back(Span(step.start, step.end), spans)
        left = {p for a, b in spans for p in range(a, b)}
        self.kept |= left
        self.undone |= set(range(step.start, step.end)) - left

    @precondition(lambda self: self.step is not None)
    @rule(reached=st.integers(0, TOTAL))
    def lose_undo(self, reached: int) -> None:
        assert self.step is not None
        step, self.step = self.step, None
        self.books.lose_undo(Span(step.start, step.end), reached)
        positions = set(range(step.start, step.end))
        self.undone |= {p for p in positions if p < reached}
        self.kept |= {p for p in positions if p >= reached}

    @precondition(lambda self: self.undoes and self.step is None)
    @rule()
    def give_up_undo(self) -> None:
        self.books.give_up_undo()
        self.kept |= self.to_undo
        self.to_undo = set()

    # -- what must always hold

    @invariant()
    def each_position_is_in_one_place(self) -> None:
        books = self.books
        assert books.left == len(self.waiting)
        assert books.completed == len(self.done)
        held = {p for chunk in self.held for p in range(chunk.start, chunk.end)}
        changed = self.changed if self.undoes else set()
        places = [self.waiting - changed, held, each(books.failed), each(books.lost), self.dropped - changed]
        if self.undoes:
            undoing = set(range(self.step.start, self.step.end)) if self.step else set()
            places += [each(books.done), self.to_undo, undoing, each(books.undone), self.kept]
            assert self.kept <= each(books.dirty)
            assert each(books.dirty) == self.named | self.kept
            assert each(books.done) == self.stays
        else:
            places.append(each(books.done))
            assert each(books.done) == self.done
        everywhere = [p for place in places for p in place]
        assert sorted(everywhere) == list(range(TOTAL)), "a position is nowhere, or in two places"
        assert each(books.touched) == self.touched
        assert each(books.holes) == self.holes


Books.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_position_when_anything_happens_then_in_exactly_one_place = Books.TestCase


def books(*, undo: bool = True, **declared: Any) -> Positions:
    return Positions(
        Plan((NodePart(0, TOTAL),), 2, 10, 1, 1, 1), Declaration("any", "Anything.", **declared), undo=undo
    )


def test_holes_when_there_are_too_many_then_the_report_counts_and_they_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ktaskd.jobs.positions.PRIOR_HOLES_MAX", 3)
    positions = books()
    positions.report_prior(0, 10, [(0, 1), (2, 3)], lambda _: True)
    positions.report_prior(10, 20, [(10, 11), (12, 13)], lambda _: True)
    positions.report_prior(20, 30, [(20, 30)], lambda _: False)
    assert list(positions.holes) == [Span(0, 1), Span(2, 3)]
    assert list(positions.reported) == [Span(0, 30)]


@pytest.mark.parametrize("undo", [True, False])
def test_chunk_when_it_failed_where_a_worker_died_then_dirty_unless_that_is_undone(
    undo: bool,
) -> None:
    positions = books(undo=undo, partial=Partial.RERUN_SAFE, writes_bytes=True)
    first = positions.take(10, -1, lead=True, has_free=lambda _: False)
    assert first is not None
    positions.note_touched(first, undoing=False)
    positions.give_back(first)
    again = positions.take(10, -1, lead=True, has_free=lambda _: False)
    assert again == first
    positions.fail(again, [(0, 10), (50, 55)])
    positions.begin_undo()
    assert list(positions.to_undo) == ([Span(0, 10)] if undo else [])
    assert list(positions.dirty) == ([Span(50, 55)] if undo else [Span(0, 10), Span(50, 55)])


def test_books_when_the_job_has_ended_then_the_first_spans_and_the_number_of_all_are_left() -> None:
    positions = books()
    assert positions.remains() is NOTHING_LEFT
    positions.mark_dirty((3 * i, 3 * i + 1) for i in range(SPANS_LISTED + 5))
    positions.undone.add(1, 2)
    kept = positions.remains()
    assert (len(kept.dirty), kept.cut_dirty.omitted) == (SPANS_LISTED, 5)
    assert kept.cut_dirty.hull == positions.dirty.hull
    assert (list(kept.undone), kept.cut_undone.omitted) == ([Span(1, 2)], 0)
    assert not NOTHING_LEFT.dirty
    assert not NOTHING_LEFT.undone
