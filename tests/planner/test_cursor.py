"""Every position is handed out once, in whatever order workers pull and give back.

Guards: I1
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ktaskd.model.job import RangeSpec
from ktaskd.model.topology import Node, Topology
from ktaskd.planner.cursor import ANY_NODE, Chunk, Cursor
from ktaskd.planner.plan import Boundary, NodePart, Plan, Request, make_plan
from ktaskd.planner.threads import round_up

THREE_NODES = Topology((Node(0, frozenset({0, 1})), Node(1, frozenset({2})), Node(2, frozenset())))
HELPERS = {0: 2, 1: 1, 2: 0}
NIDS = [0, 1]
"""Nodes that have helpers."""

nids = st.sampled_from([None, -1, 0, 1, 2])


def records_of(size: int) -> Boundary | None:
    return (lambda position: round_up(position, size)) if size > 1 else None


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any ranges that do not overlap, in any order, on any nodes."""
    edges = sorted(draw(st.sets(st.integers(0, 400), min_size=2, max_size=10)))
    pieces = [RangeSpec(a, b - a, draw(nids)) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    request = Request(
        draw(st.permutations(pieces)),
        min_chunk=draw(st.sampled_from([0, 1, 5, 2**62])),
        max_threads=draw(st.integers(0, 5)),
        align=draw(st.sampled_from([0, 1, 4, 64])),
        probe=draw(st.sampled_from([1, 16])),
        boundary=records_of(draw(st.sampled_from([0, 1, 3, 8, 500]))),
        anywhere=draw(st.booleans()),
        caller_nid=draw(st.sampled_from([-1, 0, 1, 2, 7])),
        waited=draw(st.booleans()),
    )
    return make_plan(request, THREE_NODES, HELPERS)


def positions(plan: Plan) -> list[int]:
    return sorted(p for part in plan.parts for p in range(part.start, part.end))


def allowed(part: NodePart, nid: int, lead: bool, has_free: Callable[[int], bool]) -> bool:
    """States again, independently of the code, which workers may process a part."""
    if lead or part.nid in (nid, ANY_NODE):
        return True
    return not part.only and not has_free(part.nid)


class Pullers(RuleBasedStateMachine):
    """Workers take, finish, and give parts back, in any order."""

    @initialize(plan=plans())
    def begin(self, plan: Plan) -> None:
        self.plan = plan
        self.cursor = Cursor(plan)
        self.held: list[Chunk] = []
        self.uncut = set(positions(plan))
        """Not yet cut, or given back."""
        self.done: set[int] = set()
        self.gives_back = False

    @rule(
        nid=st.sampled_from([*NIDS, 2, -1]),
        lead=st.booleans(),
        free=st.sets(st.sampled_from(NIDS)),
        size=st.integers(0, 200),
    )
    def take(self, nid: int, lead: bool, free: set[int], size: int) -> None:
        has_free = free.__contains__
        may = self.cursor.may_take(nid, lead=lead, has_free=has_free)
        open_parts = [
            part
            for part in self.plan.parts
            if any(position in self.uncut for position in range(part.start, part.end))
        ]
        assert may == any(allowed(part, nid, lead, has_free) for part in open_parts)
        chunk = self.cursor.take(size, nid, lead=lead, has_free=has_free)
        assert (chunk is not None) == may
        if chunk is None:
            return
        part = self.plan.parts[chunk.part_i]
        assert allowed(part, nid, lead, has_free)
        own = [other for other in open_parts if other.nid == nid]
        assert not own or part.nid == nid, "its own node goes first"
        assert part.start <= chunk.start < chunk.end <= part.end
        assert chunk.nid == part.nid
        taken = set(range(chunk.start, chunk.end))
        assert taken <= self.uncut, "nobody else has it"
        self.uncut -= taken
        self.held.append(chunk)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        chunk = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.done |= set(range(chunk.start, chunk.end))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        chunk = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        reached = data.draw(st.integers(chunk.start, chunk.end))
        self.done |= set(range(chunk.start, reached))
        self.uncut |= set(range(reached, chunk.end))
        self.cursor.give_back(chunk, reached, chunk.end)

    @invariant()
    def each_position_is_in_one_bucket(self) -> None:
        if not hasattr(self, "plan"):
            return
        held = [p for chunk in self.held for p in range(chunk.start, chunk.end)]
        assert sorted([*held, *self.uncut, *self.done]) == positions(self.plan)
        assert self.cursor.left == len(self.uncut)

    def teardown(self) -> None:
        """The lead alone can always end the job."""
        if not hasattr(self, "plan"):
            return
        while chunk := self.cursor.take(7, -1, lead=True, has_free=lambda _: True):
            self.uncut -= set(range(chunk.start, chunk.end))
        assert not self.uncut
        assert self.cursor.left == 0


TestPullers = Pullers.TestCase
TestPullers.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


@given(plan=plans(), sizes=st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_cursor_when_nothing_is_given_back_then_edges_are_aligned_and_on_records(
    plan: Plan, sizes: list[int]
) -> None:
    cursor, chunks = Cursor(plan), list[Chunk]()
    while chunk := cursor.take(sizes[len(chunks) % len(sizes)], 0, lead=True, has_free=lambda _: False):
        chunks.append(chunk)
    assert sorted(p for chunk in chunks for p in range(chunk.start, chunk.end)) == positions(plan)
    for chunk in chunks:
        part = plan.parts[chunk.part_i]
        for edge, outer in ((chunk.start, part.start), (chunk.end, part.end)):
            if edge == outer:
                continue
            if plan.boundary is not None:
                assert plan.boundary(edge) == edge
            else:
                assert edge % plan.align == 0


@given(plan=plans())
def test_cursor_when_chunks_have_the_planned_size_then_their_number_is_bounded(plan: Plan) -> None:
    cursor, count = Cursor(plan), 0
    while cursor.take(plan.chunk, 0, lead=True, has_free=lambda _: False):
        count += 1
    # Each part may have one unaligned edge, and a remainder.
    assert count <= 4 * plan.threads + 2 * len(plan.parts)


@given(plan=plans(), size=st.integers(1, 50))
def test_cursor_when_cut_from_the_front_then_no_chunk_but_a_whole_part_is_below_min_chunk(
    plan: Plan, size: int
) -> None:
    cursor = Cursor(plan)
    while chunk := cursor.take(max(size, plan.min_chunk), 0, lead=True, has_free=lambda _: False):
        part = plan.parts[chunk.part_i]
        whole = (chunk.start, chunk.end) == (part.start, part.end)
        assert whole or chunk.end - chunk.start >= min(plan.min_chunk, part.end - part.start)


def test_cursor_when_a_node_has_nothing_left_then_helps_where_most_is_left() -> None:
    parts = (NodePart(0, 10, 1), NodePart(10, 40, 3), NodePart(40, 60, 4, only=True))
    cursor = Cursor(Plan(parts, 2, 5, 1, 1, 1))
    chunk = cursor.take(5, 0, lead=False, has_free=lambda _: False)
    assert chunk is not None
    assert chunk.nid == 3


@pytest.mark.parametrize("lead", [False, True])
def test_cursor_when_a_part_is_strict_then_only_the_lead_may_help(lead: bool) -> None:
    cursor = Cursor(Plan((NodePart(0, 10, 1, only=True),), 1, 5, 1, 1, 1))
    assert cursor.may_take(0, lead=lead, has_free=lambda _: False) == lead


def test_cursor_when_the_own_node_has_a_free_helper_then_others_do_not_help() -> None:
    cursor = Cursor(Plan((NodePart(0, 10, 1),), 1, 5, 1, 1, 1))
    assert not cursor.may_take(0, lead=False, has_free=lambda nid: nid == 1)
    assert cursor.may_take(0, lead=False, has_free=lambda nid: nid == 0)
    assert cursor.may_take(0, lead=True, has_free=lambda _: True)


def test_cursor_when_the_last_part_is_emptied_and_given_back_then_it_is_open_again() -> None:
    cursor = Cursor(Plan((NodePart(0, 10),), 1, 10, 1, 1, 1))
    chunk = cursor.take(10, 0, lead=False, has_free=lambda _: False)
    assert chunk == Chunk(0, 10, 0, ANY_NODE)
    assert cursor.take(10, 0, lead=True, has_free=lambda _: False) is None
    cursor.give_back(chunk, 4, 10)
    cursor.give_back(chunk, 10, 10)
    assert cursor.left == 6
    assert cursor.take(10, 0, lead=False, has_free=lambda _: False) == Chunk(4, 10, 0, ANY_NODE)


def test_close_when_some_is_handed_out_then_nothing_comes_in_or_out_any_more() -> None:
    request = Request([RangeSpec(0, 100, -1), RangeSpec(200, 100, 0)], max_threads=2)
    cursor = Cursor(make_plan(request, THREE_NODES, HELPERS))
    chunk = cursor.take(10, 0, lead=False, has_free=lambda _: False)
    assert chunk is not None
    cursor.close()
    cursor.give_back(chunk, chunk.start, chunk.end)
    assert cursor.left == 0
    for lead in (False, True):
        assert not cursor.may_take(0, lead=lead, has_free=lambda _: False)
        assert cursor.take(10, 0, lead=lead, has_free=lambda _: False) is None
