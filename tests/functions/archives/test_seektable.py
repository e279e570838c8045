"""Statements of a file about its frames, in a seek table or like pzstd, are used but never trusted."""

from __future__ import annotations

import errno
import random
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import xxhash
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.archives.frames import FRAMES_MAX
from ktaskd.functions.archives.framing import find_zstd
from ktaskd.functions.archives.seektable import find_table
from ktaskd.functions.bodies import find
from tests.functions.archives.test_compress import USUAL, chunks, context_of, pair, some, whole
from tests.functions.inprocess import Recorder, content, lay_out, opened, prepare

COMPRESS, DECOMPRESS = find("file.compress"), find("file.decompress")
SIZES = (70_000, 1, 200_000, 0, 65_536)
PIECES = [some(size) for size in SIZES]
DATA = b"".join(PIECES)


def frame(piece: bytes) -> bytes:
    """A frame that does not state its decompressed size, with blocks that are flushed early."""
    made = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    half = made.compress(piece[: len(piece) // 2]) + made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return half + made.compress(piece[len(piece) // 2 :]) + made.flush()


FRAMES = [frame(piece) for piece in PIECES]
ENTRIES = [
    (len(made), len(piece), xxhash.xxh64_intdigest(piece) & 0xFFFFFFFF)
    for made, piece in zip(FRAMES, PIECES, strict=True)
]


def table(entries: Sequence[Sequence[int]], *, checks: bool = True, count: int = -1, flags: int = 0) -> bytes:
    """A seek table with any entries."""
    rows = b"".join(struct.pack(f"<{3 if checks else 2}I", *entry[: 3 if checks else 2]) for entry in entries)
    foot = struct.pack(
        "<IBI", len(entries) if count < 0 else count, flags | (0x80 if checks else 0), 0x8F92EAB1
    )
    return struct.pack("<II", 0x184D2A5E, len(rows) + len(foot)) + rows + foot


def unpacked(made: bytes) -> bytes | None:
    """The output of zstd; None if it fails."""
    done = subprocess.run(["zstd", "-dc"], input=made, capture_output=True, check=False)
    return None if done.returncode else done.stdout


def told_of(made: bytes, directory: Path, cuts: Sequence[float] = (0.4, 0.7)) -> tuple[dict[str, Any], bytes]:
    """The final result of a job on a file, and its output."""
    with pair(directory, made) as (src, dst):
        context = context_of(src, dst, format="auto")
        prepared = prepare(DECOMPRESS, context)
        try:
            chunks(DECOMPRESS, context, [int(len(made) * cut) for cut in cuts])
            corrected = DECOMPRESS.finish(context, prepared, Recorder()) or {}
        except OSError:
            DECOMPRESS.restore(context, prepared)
            assert dst.size() == 0
            raise
        return {**context.combined, **corrected}, content(dst)


@pytest.mark.parametrize("checks", [False, True])
def test_table_when_true_then_each_frame_is_decompressed_by_itself(checks: bool, tmp_path: Path) -> None:
    made = b"".join(FRAMES) + table(ENTRIES, checks=checks)
    assert unpacked(made) == DATA
    with pair(tmp_path, made) as (src, _):
        frames = find_table(src)
        assert frames is not None
        assert [frames.limit(i) for i in range(len(SIZES))] == list(SIZES)
        assert list(frames.checks) == ([entry[2] for entry in ENTRIES] if checks else [])
    told, found = told_of(made, tmp_path)
    assert found == DATA
    assert (told["bytes"], told["compressed"], told["frames"]) == (len(DATA), len(made), len(SIZES))


def test_table_when_written_by_compress_then_used(tmp_path: Path) -> None:
    with pair(tmp_path, DATA) as (src, dst), opened("file", tmp_path, name="back") as back:
        whole(COMPRESS, context_of(src, dst, **USUAL), [])
        assert find_table(dst) is not None
        assert whole(DECOMPRESS, context_of(dst, back, format="auto"), [9])["frames"] == 6
        assert content(back) == DATA


def moved(entries: Sequence[tuple[int, int, int]], column: int, count: int) -> list[list[int]]:
    """The same sizes, with `count` moved from the first frame to the third."""
    rows = [list(entry) for entry in entries]
    rows[0][column] -= count
    rows[2][column] += count
    return rows


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("count", [1, -1, 500, -500])
def test_table_when_its_sums_are_right_and_its_entries_are_not_then_as_zstd_does(
    column: int, count: int, tmp_path: Path
) -> None:
    made = b"".join(FRAMES) + table(moved(ENTRIES, column, count))
    with pair(tmp_path, made) as (src, _):
        assert find_table(src) is not None
    told, found = told_of(made, tmp_path)
    assert found == unpacked(made) == DATA
    assert (told["bytes"], told["compressed"], told["frames"]) == (len(DATA), len(made), 0)


def test_table_when_its_total_is_wrong_then_as_zstd_does(tmp_path: Path) -> None:
    for size in (0, SIZES[-1] - 1, SIZES[-1] + 1, 1 << 20):
        rows = [*ENTRIES[:-1], (ENTRIES[-1][0], size, 0)]
        told, found = told_of(b"".join(FRAMES) + table(rows, checks=False), tmp_path)
        assert (found, told["bytes"]) == (DATA, len(DATA))


def test_table_when_a_checksum_is_wrong_then_an_error_that_says_where(tmp_path: Path) -> None:
    rows = [*ENTRIES[:2], (*ENTRIES[2][:2], ENTRIES[2][2] ^ 1), *ENTRIES[3:]]
    at = sum(entry[0] for entry in ENTRIES[:2])
    with pytest.raises(OSError, match=f"at {at}: the frame does not match its checksum in the seek table"):
        told_of(b"".join(FRAMES) + table(rows), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        table(ENTRIES, count=2**32 - 1),
        table(ENTRIES, count=FRAMES_MAX + 1),
        table(ENTRIES, count=0),
        table(ENTRIES, flags=4),
        table(ENTRIES[:-1]),
        table([(2**32 - 1, 5, 0)] * 5),
        table([(*ENTRIES[0][:1], 2**32 - 1, 0), *ENTRIES[1:]]),
        table([(0, 5, 0), *ENTRIES]),
        table([]),
        b"\x50\x2a\x4d\x18" + table(ENTRIES)[4:],
    ],
)
def test_table_when_it_cannot_be_true_then_ignored(wrong: bytes, tmp_path: Path) -> None:
    made = b"".join(FRAMES) + wrong
    with pair(tmp_path, made) as (src, _):
        assert find_table(src) is None
    assert told_of(made, tmp_path)[1] == unpacked(made) == DATA


@pytest.mark.parametrize("tail", [b"\xb1\xea\x92\x8f", table(ENTRIES)[-9:], table(ENTRIES)[9:]])
def test_table_when_the_file_is_its_end_then_there_is_none(tail: bytes, tmp_path: Path) -> None:
    with pair(tmp_path, tail) as (src, _):
        assert find_table(src) is None


def test_frames_when_two_seekable_files_are_joined_then_what_was_in_both(tmp_path: Path) -> None:
    made = (b"".join(FRAMES) + table(ENTRIES)) * 2
    assert told_of(made, tmp_path)[1] == DATA * 2


def test_frame_when_it_hides_in_a_skippable_one_then_not_decompressed(tmp_path: Path) -> None:
    hidden = frame(b"hidden")
    skipped = struct.pack("<II", 0x184D2A53, len(hidden)) + hidden
    rows = [(len(FRAMES[0]) + 8, len(PIECES[0])), (len(hidden), 6), ENTRIES[1][:2]]
    made = FRAMES[0] + skipped + FRAMES[1] + table(rows, checks=False)
    told, found = told_of(made, tmp_path, ())
    assert found == unpacked(made) == PIECES[0] + PIECES[1]
    assert told["bytes"] == len(found)


def test_finish_when_broken_off_then_done_again_it_is_the_same(tmp_path: Path) -> None:
    made = b"".join(FRAMES) + table(moved(ENTRIES, 1, 500))
    with pair(tmp_path, made) as (src, dst):
        context = context_of(src, dst, format="auto")
        prepared = prepare(DECOMPRESS, context)
        chunks(DECOMPRESS, context, [])
        for stop_after in (0, 1, 2):
            with pytest.raises(OSError, match="stopped before all frames") as caught:
                DECOMPRESS.finish(context, prepared, Recorder(stop_after=stop_after))
            assert caught.value.errno == errno.ECANCELED
        for _ in range(2):
            assert DECOMPRESS.finish(context, prepared, Recorder()) == {"bytes": len(DATA), "frames": 0}
            assert content(dst) == DATA


def by_pzstd(data: bytes, directory: Path) -> bytes:
    """A file as made by pzstd; its frames hold 2 MiB at level 1."""
    if shutil.which("pzstd") is None:
        pytest.skip("no pzstd here; the Debian package zstd has it")
    (directory / "in").write_bytes(data)
    subprocess.run(["pzstd", "-q", "-1", "-f", "in", "-o", "out"], cwd=directory, check=True)
    return (directory / "out").read_bytes()


PZSTD_STEP = 2 << 20
LONG = (b"%d\n" * 1000 % tuple(range(1000)) + random.Random(1).randbytes(2000)) * 900


@pytest.mark.parametrize("size", [0, 9, PZSTD_STEP, PZSTD_STEP + 1, 2 * PZSTD_STEP + 77_777])
def test_pzstd_when_decompressed_then_frame_by_frame(size: int, tmp_path: Path) -> None:
    data = LONG[:size]
    made = by_pzstd(data, tmp_path)
    with pair(tmp_path, made) as (src, _):
        frames = find_zstd(src)
        assert frames is not None
        assert len(frames.starts) == size // PZSTD_STEP + 1  # the last one may be empty
    told, found = told_of(made, tmp_path)
    assert found == data
    assert (told["bytes"], told["compressed"], told["frames"]) == (size, len(made), len(frames.starts))


def announced(made: bytes, length: int | None = None) -> bytes:
    """A frame after the length that pzstd writes before it."""
    return struct.pack("<III", 0x184D2A50, 4, len(made) if length is None else length) + made


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"".join(map(announced, FRAMES)),  # with other lengths than pzstd's
        lambda: announced(FRAMES[0]) + FRAMES[1],
        lambda: FRAMES[0] + announced(FRAMES[1]),
        lambda: announced(FRAMES[0], 7) + FRAMES[1],
        lambda: announced(FRAMES[0], 2**32 - 1) + FRAMES[1],
        lambda: announced(FRAMES[0] + FRAMES[1]) + announced(FRAMES[2]),
        lambda: announced(FRAMES[0], len(FRAMES[0]) + 12 + len(FRAMES[1])) + announced(FRAMES[1]),
        lambda: announced(zstandard.compress(PIECES[0])) + announced(zstandard.compress(PIECES[2])),
        lambda: announced(FRAMES[0]) + struct.pack("<II", 0x184D2A51, 3) + b"abc",
        lambda: announced(b"") + FRAMES[0],
    ],
)
def test_pzstd_when_its_lengths_are_something_else_then_as_zstd_does(make: Any, tmp_path: Path) -> None:
    made = make()
    told, found = told_of(made, tmp_path)
    assert found == unpacked(made)
    assert (told["bytes"], told["compressed"]) == (len(found), len(made))


def test_pzstd_when_two_files_are_joined_then_what_was_in_both(tmp_path: Path) -> None:
    data = LONG[: PZSTD_STEP + 1000]
    made = by_pzstd(data, tmp_path) * 2
    assert told_of(made, tmp_path)[1] == data * 2


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_frame_of_many_blocks_when_recalled_at_any_quantum_then_it_begins_again_later(
    stop_after: int, tmp_path: Path
) -> None:
    made = zstandard.ZstdCompressor(level=1).compressobj(size=200_000)
    blocks = [made.compress(some(1000)) + made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for _ in range(200)]
    frames = [zstandard.compress(b"first"), b"".join(blocks) + made.flush()]
    with pair(tmp_path, b"".join(frames)) as (src, dst):
        context = context_of(src, dst, format="auto")
        prepare(DECOMPRESS, context)
        assert DECOMPRESS.run(context, 0, 1, Recorder())[0] == 1  # remembers the frames from here on
        reached, part = DECOMPRESS.run(context, 1, src.size(), Recorder(stop_after=stop_after))
        assert (reached, part) == (
            len(frames[0]),
            {"bytes": 0, "compressed": reached - 1, "frames": 0, "_crc": 0},
        )
        assert DECOMPRESS.run(context, reached, src.size(), Recorder())[0] == src.size()
        assert content(dst) == b"first" + some(1000) * 200


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["table", "pzstd"]),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=4),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.integers(0, 30),
)
def test_claims_when_any_byte_of_them_is_changed_then_an_error_or_as_zstd_does(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]], order: list[int], lost: int
) -> None:
    frames = [FRAMES[i] for i in order]
    made = bytearray(b"".join(map(announced, frames) if kind == "pzstd" else frames))
    heads = [made.find(struct.pack("<I", 0x184D2A50), i) for i in range(len(order))]
    made += table([ENTRIES[i] for i in order]) if kind == "table" else b""
    for at, value in changes:
        place = len(made) - 1 - at % 69 if kind == "table" else heads[at % len(heads)] + at % 18
        made[max(place, 0) % len(made)] = value
    cut = bytes(made[: len(made) - (lost if lost > 20 else 0)])
    wanted = unpacked(cut)
    try:
        told, found = told_of(cut, tmp_path)
    except OSError:
        return
    assert found == wanted
    assert told["bytes"] == len(found)


def test_wipe_when_called_then_a_table_is_read_again(tmp_path: Path) -> None:
    with pair(tmp_path, b"".join(FRAMES) + table(ENTRIES)) as (src, dst):
        whole(DECOMPRESS, context_of(src, dst, format="auto"), [])
        lay_out(dst, 0, [])
        DECOMPRESS.wipe()
        assert whole(DECOMPRESS, context_of(src, dst, format="auto"), [])["frames"] == len(SIZES)
