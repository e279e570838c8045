"""Arithmetic of spans."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.functions.quanta import BUFFER, READ_BUFFER, common, cut, gaps, make_buffer, wipe, zero_runs

PAGE = 4096
edges = st.lists(st.integers(0, 60), max_size=12, unique=True).map(sorted)


def spans_of(values: list[int]) -> list[tuple[int, int]]:
    return list(zip(values[::2], values[1::2], strict=False))


def positions(spans: list[tuple[int, int]]) -> set[int]:
    return {position for start, end in spans for position in range(start, end)}


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 40))
def test_cut_when_cut_then_it_covers_and_inner_edges_are_multiples(
    start: int, end: int, quantum: int
) -> None:
    pieces = list(cut(start, end, quantum))
    assert [position for first, after in pieces for position in range(first, after)] == list(
        range(start, end)
    )
    assert all(0 < after - first <= quantum for first, after in pieces)
    assert all(after % quantum == 0 for _, after in pieces[:-1])


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


@pytest.mark.parametrize("length", [0, 1, BUFFER, BUFFER + 1, 5 * BUFFER])
def test_wipe_when_of_any_length_then_all_is_zero_and_the_length_stays(length: int) -> None:
    """Even if only the end of the buffer holds something."""
    for content in (b"x" * length, bytes(max(length - 1, 0)) + b"x" * min(length, 1)):
        buffer = bytearray(content)
        wipe(buffer)
        assert buffer == bytes(length)


@pytest.mark.parametrize("size", [BUFFER, READ_BUFFER, BUFFER + 1])
def test_buffer_when_made_then_it_begins_at_a_page_and_keeps_that_when_wiped(size: int) -> None:
    buffer = make_buffer(size)
    for _ in range(2):
        assert (len(buffer), buffer.count(0)) == (size, size)
        assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % PAGE == 0
        buffer[:] = bytes([7]) * size
        wipe(buffer)
