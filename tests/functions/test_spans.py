"""Arithmetic of spans behaves like that of sets of positions."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.functions.quanta import PAGE
from ktaskd.functions.spans import common, gaps, zero_runs

edges = st.lists(st.integers(0, 60), max_size=12, unique=True).map(sorted)


def spans_of(values: list[int]) -> list[tuple[int, int]]:
    return list(zip(values[::2], values[1::2], strict=False))


def positions(spans: list[tuple[int, int]]) -> set[int]:
    return {position for start, end in spans for position in range(start, end)}


@settings(deadline=None)
@given(edges, st.integers(0, 60), st.integers(0, 60))
def test_gaps_when_taken_then_all_that_is_not_in_runs(values: list[int], start: int, end: int) -> None:
    runs = spans_of(values)
    found = gaps(runs, start, end)
    assert positions(found) == set(range(start, end)) - positions(runs)
    assert all(first < after for first, after in found)  # a reversed span would have no positions


@settings(deadline=None)
@given(edges, edges)
def test_common_when_taken_then_what_is_in_both(left: list[int], right: list[int]) -> None:
    both = common(spans_of(left), spans_of(right))
    assert positions(both) == positions(spans_of(left)) & positions(spans_of(right))


@settings(deadline=None)
@given(
    st.integers(0, 2 * PAGE),
    st.lists(st.tuples(st.integers(0, 3 * PAGE + 99), st.integers(1, 255)), max_size=4),
    st.integers(0, 3 * PAGE + 100),
)
def test_zero_runs_when_found_then_exactly_the_pages_of_zeros(
    base: int, bytes_set: list[tuple[int, int]], length: int
) -> None:
    buffer = bytearray(3 * PAGE + 100)
    for offset, value in bytes_set:
        buffer[offset] = value
    found = positions(zero_runs(buffer, length, base))
    expected = set()
    for position in range(base, base + length):
        first = max(position - position % PAGE, base)
        after = min(position - position % PAGE + PAGE, base + length)
        if not any(base + offset in range(first, after) for offset, _ in bytes_set):
            expected.add(position)
    assert found == expected
