"""CPU lists in the kernel's format, and the node of each CPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.topology import Node, Topology, format_cpulist, parse_cpulist


@given(st.frozensets(st.integers(0, 8191), max_size=40))
def test_cpulist_when_written_and_read_then_equal(cpus: frozenset[int]) -> None:
    assert parse_cpulist(format_cpulist(cpus)) == cpus


@pytest.mark.parametrize(
    ("cpus", "text"), [(set(), ""), ({3}, "3"), ({0, 1}, "0-1"), ({0, 1, 2, 4}, "0-2,4"), ({5, 1}, "1,5")]
)
def test_cpulist_when_written_then_as_the_kernel(cpus: set[int], text: str) -> None:
    assert format_cpulist(cpus) == text
    assert parse_cpulist(f"{text}\n") == cpus


@pytest.mark.parametrize("text", ["a", "1-b", "-1"])
def test_cpulist_when_it_is_none_then_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_cpulist(text)


def test_topology_when_asked_then_knows_nodes_and_cpus() -> None:
    topology = Topology((Node(0, frozenset({0, 1})), Node(2, frozenset()), Node(3, frozenset({7}))))
    assert topology.cpus == {0, 1, 7}
    assert [topology.nid_of(cpu) for cpu in (1, 7, 2)] == [0, 3, -1]
    assert topology.node(2) == Node(2, frozenset())
    assert topology.node(1) is None
