"""The demo's own checks detect wrong results."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ktask import JobError, JobState, Span

from tools import checks, undoing
from tools.showcase import make_file

SIZE = checks.PIECE * 2 + 5


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("checked")
    os.pwrite(fd, b"\x07" * SIZE, 0)
    yield fd
    os.close(fd)


@pytest.fixture
def other(memory: int) -> Iterator[int]:
    fd = os.memfd_create("other")
    os.pwrite(fd, b"\x07" * SIZE, 0)
    yield fd
    os.close(fd)


def test_crc32_when_many_pieces_then_that_of_the_whole(memory: int) -> None:
    assert checks.crc32(memory) == zlib.crc32(b"\x07" * SIZE)


@pytest.mark.parametrize("position", [0, checks.PIECE, SIZE - 1])
def test_all_bytes_when_one_differs_then_seen(memory: int, position: int) -> None:
    assert checks.all_bytes(memory, SIZE, 7)
    os.pwrite(memory, b"\x08", position)
    assert not checks.all_bytes(memory, SIZE, 7)


def test_all_bytes_when_another_size_then_seen(memory: int) -> None:
    assert not checks.all_bytes(memory, SIZE - 1, 7)
    assert not checks.all_bytes(memory, SIZE + 1, 7)


@pytest.mark.parametrize("position", [0, checks.PIECE, SIZE - 1])
def test_same_bytes_when_one_differs_then_seen(memory: int, other: int, position: int) -> None:
    assert checks.same_bytes(memory, other, SIZE)
    os.pwrite(other, b"\x08", position)
    assert not checks.same_bytes(memory, other, SIZE)


def test_same_bytes_when_another_size_then_seen(memory: int, other: int) -> None:
    os.ftruncate(other, SIZE + 1)
    assert not checks.same_bytes(memory, other, SIZE)
    os.ftruncate(other, SIZE - 1)
    assert not checks.same_bytes(memory, other, SIZE)


FAILED = JobError("FUNCTION_ERROR", "", Span(4, 8), -1, 5, "", 0, (Span(0, 3),), ())


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ([17, 17, 17, 0, 0, 0, 0, 0, 0], True),
        # The failed chunk undoes its own work, from its start.
        ([17, 17, 17, 0, 17, 17, 0, 0, 0], True),
        ([17, 17, 17, 0, 0, 17, 0, 0, 0], False),
        ([17, 17, 1, 0, 0, 0, 0, 0, 0], False),
        ([17, 17, 0, 0, 0, 0, 0, 0, 0], False),
        ([17, 17, 33, 0, 0, 0, 0, 0, 0], False),
        ([17, 17, 17, 16, 0, 0, 0, 0, 0], False),
        ([17, 17, 17, 0, 0, 0, 0, 0, 17], False),
        ([17, 17, 17, 0, 1, 0, 0, 0, 0], False),
    ],
)
def test_judge_when_bytes_then_only_undone_ones_are_right(found: list[int], right: bool) -> None:
    assert undoing.judge(JobState.FAILED, FAILED, bytes(found)) is right


def test_judge_when_dirty_or_nothing_undone_then_wrong() -> None:
    found = bytes([17, 17, 17, 0, 0, 0, 0, 0, 0])
    assert not undoing.judge(JobState.DIRTY, FAILED, found)
    assert not undoing.judge(JobState.FAILED, replace(FAILED, dirty=(Span(8, 9),)), found)
    assert not undoing.judge(JobState.FAILED, replace(FAILED, undone=()), bytes(9))


@pytest.mark.parametrize("size", [1 << 20, (3 << 20) + 5])
def test_make_file_when_read_then_whole_and_no_piece_twice(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    make_file(path, size)
    content = path.read_bytes()
    assert len(content) == size
    assert path.stat().st_blocks * 512 >= size
    pages = [content[start : start + 4096] for start in range(0, size, 4096)]
    assert len(set(pages)) == len(pages)
