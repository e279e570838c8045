"""Plans: the parts, threads and sizes that ranges and limits give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.job import RangeSpec
from ktaskd.model.topology import Node, Topology
from ktaskd.planner.plan import NodePart, Request, make_plan, part_of, usable_helpers

TWO_NODES = Topology((Node(0, frozenset({0, 1})), Node(1, frozenset({2, 3})), Node(5, frozenset())))
"""Node 5 has memory and no CPUs."""

HELPERS = {0: 2, 1: 2, 5: 0}


@pytest.mark.parametrize(
    ("nid", "anywhere", "caller_nid", "part"),
    [
        (None, False, 1, NodePart(0, 8, 1, True)),
        (None, False, -1, NodePart(0, 8, -1, False)),
        (None, False, 9, NodePart(0, 8, -1, False)),
        (None, False, 5, NodePart(0, 8, -1, False)),
        (None, True, 1, NodePart(0, 8, -1, False)),
        (-1, False, 1, NodePart(0, 8, -1, False)),
        (0, False, 1, NodePart(0, 8, 0, False)),
        (0, True, 1, NodePart(0, 8, 0, False)),
        (5, False, 1, NodePart(0, 8, -1, False)),
    ],
)
def test_range_when_it_names_a_node_then_its_part_is_there(
    nid: int | None, anywhere: bool, caller_nid: int, part: NodePart
) -> None:
    request = Request((), anywhere=anywhere, caller_nid=caller_nid)
    assert part_of(RangeSpec(0, 8, nid), request, TWO_NODES) == part


def test_helpers_when_all_parts_are_strict_then_only_their_nodes_count() -> None:
    assert usable_helpers([NodePart(0, 1, 0, True)], HELPERS) == 2
    assert usable_helpers([NodePart(0, 1, 0, True), NodePart(1, 2, 1, True)], HELPERS) == 4
    assert usable_helpers([NodePart(0, 1, 0, True), NodePart(1, 2, 0, False)], HELPERS) == 4
    assert usable_helpers([NodePart(0, 1, 7, True)], HELPERS) == 0


def test_plan_when_ranges_are_empty_then_they_vanish() -> None:
    plan = make_plan(Request([RangeSpec(5, 0), RangeSpec(7, 0, 1)]), TWO_NODES, HELPERS)
    assert plan.parts == ()
    assert plan.total == 0
    assert plan.threads == 1
    assert plan.chunk >= 1


@given(
    lengths=st.lists(st.integers(0, 10_000), max_size=5),
    min_chunk=st.sampled_from([0, 1, 2**62]),
    max_threads=st.integers(0, 9),
    align=st.sampled_from([0, 1, 4096]),
    probe=st.sampled_from([0, 1, 100, 2**40]),
    waited=st.booleans(),
)
def test_plan_when_made_then_sizes_are_in_order(
    lengths: list[int], min_chunk: int, max_threads: int, align: int, probe: int, waited: bool
) -> None:
    ranges = [RangeSpec(i * 10_000, length) for i, length in enumerate(lengths)]
    request = Request(
        ranges, min_chunk=min_chunk, max_threads=max_threads, align=align, probe=probe, waited=waited
    )
    plan = make_plan(request, TWO_NODES, HELPERS)
    assert plan.total == sum(lengths)
    assert 1 <= plan.min_chunk <= plan.probe <= plan.chunk
    assert all(size % max(align, 1) == 0 for size in (plan.min_chunk, plan.probe, plan.chunk))
    assert 1 <= plan.threads <= max(1, min(max_threads or 4, 4 + waited))
