"""Quanta cover a span, and buffers begin on a page and are wiped in place."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.functions.quanta import BUFFER, PAGE, READ_BUFFER, cut, make_buffer, wipe


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
