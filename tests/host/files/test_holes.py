"""Holes of real files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.host.files.holes import punch, read_holes

PAGE = 4096


@pytest.fixture(params=["memfd", "file"])
def fd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    if request.param == "memfd":
        made = os.memfd_create("holes")
    else:
        made = os.open(tmp_path / "holes", os.O_RDWR | os.O_CREAT)
    yield made
    os.close(made)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.integers(0, 15)),
    st.integers(0, 16 * PAGE),
    st.integers(0, 20 * PAGE),
    st.integers(0, 20 * PAGE),
)
def test_holes_when_read_then_all_pages_that_were_not_written(
    fd: int, pages: set[int], size: int, start: int, end: int
) -> None:
    os.ftruncate(fd, 0)
    os.ftruncate(fd, size)
    for page in pages:
        if page * PAGE < size:
            os.pwrite(fd, b"x" * min(PAGE, size - page * PAGE), page * PAGE)
    found = {position for a, b in read_holes(fd, start, end) for position in range(a, b)}
    expected = {
        position for position in range(start, end) if position >= size or position // PAGE not in pages
    }
    assert found == expected


def test_punch_when_done_then_zeros_a_hole_and_the_same_length(fd: int) -> None:
    os.pwrite(fd, b"x" * (4 * PAGE), 0)
    punch(fd, PAGE - 10, 3 * PAGE + 10)
    punch(fd, 7, 7)
    punch(fd, 4 * PAGE, 9 * PAGE)
    assert os.pread(fd, 5 * PAGE, 0) == b"x" * (PAGE - 10) + bytes(2 * PAGE + 20) + b"x" * (PAGE - 10)
    assert read_holes(fd, 0, 4 * PAGE) == [(PAGE, 3 * PAGE)]


def test_punch_when_not_open_for_writing_then_an_error(fd: int) -> None:
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            punch(other, 0, PAGE)
        assert caught.value.errno == errno.EBADF
    finally:
        os.close(other)
