"""If somebody else writes or cuts an archive's target, the job fails; it never succeeds with garbage.

Tests: ktaskd/functions/archives/slots.py, ktaskd/functions/archives/decompress.py
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.archives.slots import Layout
from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.worker.sources import Source
from tests.functions.archives.test_compress import FRAME, USUAL, chunks, context_of, pair, whole
from tests.functions.inprocess import Recorder, content, lay_out, prepare

COMPRESS, DECOMPRESS = find("file.compress"), find("file.decompress")
DATA = random.Random(9).randbytes(FRAME) * 6 + b"end"
LAYOUT = Layout(len(DATA), FRAME)

Change = Callable[[Source], object]


def cut(size: int, *, regrown: bool = False) -> Change:
    def change(dst: Source) -> None:
        before = dst.size()
        os.ftruncate(dst.fd, min(size, before))
        if regrown:
            os.ftruncate(dst.fd, before)

    return change


def write(at: int, count: int = 1) -> Change:
    def change(dst: Source) -> None:
        there = os.pread(dst.fd, count, at)
        os.pwrite(dst.fd, bytes(byte ^ 1 for byte in there), at)

    return change


CHANGES: dict[str, Change] = {
    "cut to nothing": cut(0),
    "cut to nothing and made long again": cut(0, regrown=True),
    "the last byte cut": lambda dst: os.ftruncate(dst.fd, dst.size() - 1),
    "a slot cut off and made long again": cut(LAYOUT.slot_at(3), regrown=True),
    "a byte in a slot": write(LAYOUT.slot_at(2) + 100),
    "a hole in a slot": lambda dst: dst.punch(LAYOUT.slot_at(2), LAYOUT.slot_at(2) + 4096),
    "a length": write(LAYOUT.lengths_at + 16),
    "a sum": write(LAYOUT.lengths_at + 24),
    "frames moved": write(LAYOUT.moved_at),
    "all frames moved": lambda dst: os.pwrite(dst.fd, bytes([LAYOUT.count]), LAYOUT.moved_at),
    "far too many frames moved": write(LAYOUT.moved_at + 7),
}


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
@pytest.mark.parametrize("name", CHANGES)
def test_compress_when_the_target_is_changed_before_the_last_step_then_an_error(
    name: str, kind: str, tmp_path: Path
) -> None:
    with pair(tmp_path, DATA) as (src, dst):
        context = context_of(src, dst, **{**USUAL, "format": kind})
        prepared = prepare(COMPRESS, context)
        chunks(COMPRESS, context, [3 * FRAME])
        CHANGES[name](dst)
        with pytest.raises(OSError, match=r'source "dst": (somebody else has written to it|ends at)'):
            COMPRESS.finish(context, prepared, Recorder())
        COMPRESS.restore(context, prepared)
        assert dst.size() == 0


def amid(change: Callable[[], object], count: int) -> Recorder:
    seen: list[int] = []

    def on_quantum(position: int) -> None:
        seen.append(position)
        if len(seen) == count:
            change()

    return Recorder(on_quantum=on_quantum)


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("regrown", [False, True])
def test_compress_when_the_target_is_cut_in_the_last_step_then_an_error(
    count: int, regrown: bool, tmp_path: Path
) -> None:
    with pair(tmp_path, DATA) as (src, dst):
        context = context_of(src, dst, **USUAL)
        prepared = prepare(COMPRESS, context)
        chunks(COMPRESS, context, [])
        control = amid(lambda: cut(0, regrown=regrown)(dst), count)
        with pytest.raises(OSError, match='source "dst": '):
            COMPRESS.finish(context, prepared, control)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_compress_when_the_target_is_cut_while_frames_are_written_then_an_error(
    count: int, tmp_path: Path
) -> None:
    with pair(tmp_path, DATA) as (src, dst):
        context = context_of(src, dst, **USUAL)
        prepare(COMPRESS, context)
        with pytest.raises(OSError, match='source "dst": ends at 0, but the job needs bytes up to'):
            COMPRESS.run(context, 0, len(DATA), amid(lambda: os.ftruncate(dst.fd, 0), count))
        assert dst.size() == 0


def test_compress_when_all_is_done_then_done_again_it_still_sees_a_change(tmp_path: Path) -> None:
    with pair(tmp_path, DATA) as (src, dst):
        context = context_of(src, dst, **USUAL)
        prepared = prepare(COMPRESS, context)
        chunks(COMPRESS, context, [])
        COMPRESS.finish(context, prepared, Recorder())
        write(100)(dst)
        with pytest.raises(OSError, match="somebody else has written to it"):
            COMPRESS.finish(context, prepared, Recorder())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_compress_when_anything_is_written_before_the_last_step_then_an_error_or_the_same(
    tmp_path: Path, data: st.DataObject
) -> None:
    with pair(tmp_path, DATA) as (src, dst):
        whole(COMPRESS, context_of(src, dst, **USUAL), [])
        made = content(dst)
        lay_out(dst, 0, [])
        context = context_of(src, dst, **USUAL)
        prepared = prepare(COMPRESS, context)
        chunks(COMPRESS, context, [])
        for _ in range(data.draw(st.integers(1, 3))):
            os.pwrite(
                dst.fd, data.draw(st.binary(min_size=1, max_size=20)), data.draw(st.integers(0, LAYOUT.end))
            )
        try:
            COMPRESS.finish(context, prepared, Recorder())
        except OSError:
            return
        assert content(dst) == made


def several_frames() -> bytes:
    return b"".join(zstandard.compress(DATA[at : at + FRAME]) for at in range(0, len(DATA), FRAME))


def one_stream() -> bytes:
    made = zstandard.ZstdCompressor().compressobj()
    return made.compress(DATA) + made.flush()


@pytest.mark.parametrize("make", [several_frames, one_stream])
@pytest.mark.parametrize("regrown", [False, True])
def test_decompress_when_the_target_is_cut_meanwhile_then_an_error(
    regrown: bool, make: Callable[[], bytes], tmp_path: Path
) -> None:
    with pair(tmp_path, make()) as (src, dst):
        context = context_of(src, dst, format="auto")
        prepared = prepare(DECOMPRESS, context)
        with pytest.raises(OSError, match='source "dst": '):
            run_all(context, prepared, amid(lambda: cut(0, regrown=regrown)(dst), 2))


@pytest.mark.parametrize("regrown", [False, True])
def test_decompress_when_the_target_is_cut_before_the_end_then_an_error(
    regrown: bool, tmp_path: Path
) -> None:
    with pair(tmp_path, several_frames()) as (src, dst):
        context = context_of(src, dst, format="auto")
        prepared = prepare(DECOMPRESS, context)
        chunks(DECOMPRESS, context, [])
        cut(FRAME, regrown=regrown)(dst)
        with pytest.raises(OSError, match='source "dst": somebody else changed it while the job wrote it'):
            DECOMPRESS.finish(context, prepared, Recorder())


def run_all(context: Context, prepared: dict[str, Any], control: Recorder) -> None:
    reached, part = DECOMPRESS.run(context, 0, context.span[1], control)
    assert (reached, part is not None) == (context.span[1], True)
    context.combined = DECOMPRESS.combine(context, [part] if part is not None else [])
    DECOMPRESS.finish(context, prepared, Recorder())


def test_decompress_when_what_was_in_it_is_full_of_zeros_then_no_error(tmp_path: Path) -> None:
    data = bytes(5 * FRAME)
    with pair(tmp_path, zstandard.compress(data)) as (src, dst):
        whole(DECOMPRESS, context_of(src, dst, format="auto"), [])
        dst.punch(0, FRAME)  # like a file system that turns zeros into holes
        context = context_of(src, dst, format="auto")
        part = {"bytes": len(data), "compressed": 1, "frames": 1, "_crc": zlib.crc32(data)}
        context.combined = DECOMPRESS.combine(context, [part])
        DECOMPRESS.finish(context, {}, Recorder())
        assert content(dst) == data
