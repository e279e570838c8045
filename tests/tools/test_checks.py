"""The demo's own checks detect wrong results."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from ktask import JobError, JobState, Span

from tools import checks, undoing
from tools.showcase import make_file

SIZE = checks.PIECE * 2 + 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"line 7\n" * (SIZE // 7))
    return path


def test_sums_when_many_pieces_then_those_of_the_whole(file: Path) -> None:
    content = file.read_bytes()
    assert checks.crc32(file) == zlib.crc32(content)
    assert checks.sha256(file) == hashlib.sha256(content).hexdigest()


def test_lines_when_counted_then_those_that_match(file: Path) -> None:
    assert checks.lines_with(file, "[0-9]$") == SIZE // 7
    assert checks.lines_with(file, "8") == 0


@pytest.mark.parametrize("position", [0, checks.PIECE, 2 * checks.PIECE - 9])
def test_compressed_file_when_a_byte_differs_then_seen(file: Path, tmp_path: Path, position: int) -> None:
    packed, content = tmp_path / "packed", bytearray(file.read_bytes())
    compressor = zstandard.ZstdCompressor()
    halves = bytes(content[: checks.PIECE]), bytes(content[checks.PIECE :])
    packed.write_bytes(b"".join(map(compressor.compress, halves)))
    assert checks.decompresses_to(packed, file)
    content[position] ^= 1
    packed.write_bytes(compressor.compress(bytes(content)))
    assert not checks.decompresses_to(packed, file)


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
