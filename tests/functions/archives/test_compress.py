"""Other tools decompress our archives, we decompress theirs, and a job leaves all or nothing."""

from __future__ import annotations

import errno
import gzip
import random
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.archives import compress
from ktaskd.functions.archives.framing import find_gzip, find_zstd
from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.functions.quanta import BUFFER
from ktaskd.functions.transfer import write_full
from ktaskd.worker.sources import Source
from tests.functions.inprocess import MIB, Recorder, content, lay_out, opened, prepare

COMPRESS, DECOMPRESS = find("file.compress"), find("file.decompress")
KIB = 1 << 10
FRAME = 64 * KIB
USUAL: dict[str, Any] = {"format": "zstd", "level": 0, "frame": FRAME}
TOOLS = {"zstd": ["zstd", "-dc"], "gzip": ["gzip", "-dc"]}


def some(size: int) -> bytes:
    """Bytes that are half noise and half text."""
    rng = random.Random(size)
    return b"".join(
        rng.randbytes(5000) if i % 2 else b"all work and no play %d\n" % i * 200
        for i in range(size // 4000 + 1)
    )[:size]


@contextmanager
def pair(directory: Path, data: bytes) -> Iterator[tuple[Source, Source]]:
    with opened("file", directory, name="src") as src, opened("file", directory, name="dst") as dst:
        lay_out(src, len(data), [(0, data)])
        yield src, dst


def context_of(src: Source, dst: Source, **arg: Any) -> Context:
    return Context(arg, {"src": src, "dst": dst}, {}, (0, src.size()), True)


def chunks(body: Any, context: Context, cuts: list[int]) -> None:
    """Run all chunks in an odd order, recall each once, and combine their results."""
    parts = {}
    for start, end in reversed(list(pairwise(sorted({0, context.span[1], *cuts})))):
        stop_after = 3
        while start < end:
            begin = start
            start, part = body.run(context, start, end, Recorder(stop_after=stop_after))
            if part is not None and start > begin:
                parts[begin] = part
            stop_after = -1
    context.combined = body.combine(context, [parts[begin] for begin in sorted(parts)])


def whole(body: Any, context: Context, cuts: list[int]) -> dict[str, Any]:
    prepared = prepare(body, context)
    chunks(body, context, cuts)
    body.finish(context, prepared, Recorder())
    return dict(context.combined)


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 9 * FRAME + 77])
def test_compress_when_done_then_the_tool_reads_it_and_so_do_we(kind: str, size: int, tmp_path: Path) -> None:
    data = some(size)
    frames = -(-size // FRAME)
    with pair(tmp_path, data) as (src, dst), opened("file", tmp_path, name="back") as back:
        arg = {**USUAL, "format": kind}
        found = whole(COMPRESS, context_of(src, dst, **arg), [])
        made = content(dst)
        lay_out(dst, 0, [])
        cuts = [cut for cut in (FRAME, 4 * FRAME, 5 * FRAME) if cut < size]
        assert whole(COMPRESS, context_of(src, dst, **arg), cuts) == found
        assert content(dst) == made
        assert (found["bytes"], found["frames"]) == (size, frames)
        assert subprocess.run(TOOLS[kind], input=made, capture_output=True, check=True).stdout == data
        for cuts in ([], [len(made) // 3, len(made) // 2]):
            lay_out(back, 0, [])
            told = whole(DECOMPRESS, context_of(dst, back, format="auto"), cuts)
            assert content(back) == data
            assert (told["bytes"], told["compressed"]) == (size, len(made))
            assert told["frames"] == max(frames, 1)


@pytest.mark.parametrize(
    ("kind", "level"), [("gzip", level) for level in range(1, 10)] + [("zstd", 1), ("zstd", 19)]
)
def test_compress_when_nothing_can_be_saved_then_each_frame_fits(
    kind: str, level: int, tmp_path: Path
) -> None:
    data = random.Random(5).randbytes(3 * FRAME)
    with pair(tmp_path, data) as (src, dst):
        whole(COMPRESS, context_of(src, dst, **{**USUAL, "format": kind, "level": level}), [])
        assert subprocess.run(TOOLS[kind], input=content(dst), capture_output=True, check=True).stdout == data


def test_zstd_when_written_then_it_has_a_table_of_its_frames(tmp_path: Path) -> None:
    data = some(3 * FRAME + 5)
    with pair(tmp_path, data) as (src, dst):
        whole(COMPRESS, context_of(src, dst, **USUAL), [])
        made = content(dst)
        frames = find_zstd(dst)
    assert frames is not None
    count, flags, magic = struct.unpack("<IBI", made[-9:])
    assert (count, flags, magic) == (4, 0, 0x8F92EAB1)
    table = made[-9 - 8 * count : -9]
    assert struct.unpack("<II", made[-17 - 8 * count : -9 - 8 * count]) == (0x184D2A5E, 8 * count + 9)
    assert list(struct.iter_unpack("<II", table)) == [
        (end - start, size)
        for start, end, size in zip(frames.starts, frames.ends, [FRAME, FRAME, FRAME, 5], strict=True)
    ]


def by_tool(words: list[str], data: bytes) -> bytes:
    return subprocess.run(words, input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("size", [0, 1, 3 * BUFFER + 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda data: by_tool(["zstd", "-c"], data),  # no size in its header
        lambda data: by_tool(["zstd", "-19", "-c", "--no-check"], data),
        lambda data: (
            zstandard.compress(data[:9]) + b"\x50\x2a\x4d\x18\3\0\0\0abc" + zstandard.compress(data[9:])
        ),
        lambda data: by_tool(["gzip", "-c"], data),
        lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]) + bytes(700),
        lambda data: by_tool(["gzip", "-c"], data) + gzip.compress(b""),
    ],
)
def test_decompress_when_made_by_others_then_what_was_in_it(make: Any, size: int, tmp_path: Path) -> None:
    data = some(size)
    made = make(data)
    with pair(tmp_path, made) as (src, dst):
        whole(DECOMPRESS, context_of(src, dst, format="auto"), [len(made) // 2] if len(made) > 99 else [])
        assert content(dst) == data


def test_bgzip_when_decompressed_then_member_by_member(tmp_path: Path) -> None:
    data = some(5 * FRAME)
    made = b""
    for start in range(0, len(data), 60_000):
        piece = data[start : start + 60_000]
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(piece) + deflate.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<HHHH", 6, 0x4342, 2, len(body) + 25)
        made += head + body + struct.pack("<II", zlib.crc32(piece), len(piece))
    assert gzip.decompress(made) == data
    with pair(tmp_path, made) as (src, dst):
        assert find_gzip(src) is not None
        told = whole(DECOMPRESS, context_of(src, dst, format="gzip"), [len(made) // 2])
        assert content(dst) == data
    assert told["frames"] == 6


class Dying:
    """Fails in the last of `count` writes, after half of it."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __call__(self, dst: Source, role: str, at: int, piece: bytes) -> int:
        self._left -= 1
        if self._left == 0:
            write_full(dst, role, at, piece[: len(piece) // 2])
            raise MemoryError
        return write_full(dst, role, at, piece)


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
def test_finish_when_it_dies_anywhere_then_done_again_it_is_the_same(kind: str, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(6 * FRAME + 1)  # grows when compressed
    arg = {**USUAL, "format": kind}
    with pair(tmp_path, data) as (src, dst):
        whole(COMPRESS, context_of(src, dst, **arg), [])
        made = content(dst)
        for deaths in range(1, 20):
            lay_out(dst, 0, [])
            context = context_of(src, dst, **arg)
            prepared = prepare(COMPRESS, context)
            chunks(COMPRESS, context, [])
            with pytest.MonkeyPatch.context() as patch, suppress(MemoryError):
                patch.setattr(compress, "write_full", Dying(deaths))
                COMPRESS.finish(context, prepared, Recorder())
            COMPRESS.finish(context, prepared, Recorder())
            assert content(dst) == made, deaths
            COMPRESS.finish(context, prepared, Recorder())
            assert content(dst) == made


@pytest.mark.parametrize("body", [COMPRESS, DECOMPRESS])
def test_undo_when_restored_then_the_target_is_empty(body: Any, tmp_path: Path) -> None:
    data = some(2 * FRAME) if body is COMPRESS else zstandard.compress(some(2 * FRAME))
    with pair(tmp_path, data) as (src, dst):
        context = context_of(src, dst, **{**USUAL, "format": "zstd"})
        prepared = prepare(body, context)
        assert dst.size() > 0
        body.run(context, 0, min(FRAME, len(data)), Recorder())
        assert body.undo(context, 0, FRAME, [], Recorder()) == []
        body.restore(context, prepared)
        assert dst.size() == 0


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ({"format": "xz"}, 'argument "format": got "xz", wanted zstd or gzip'),
        ({"format": "gzip", "level": 10}, 'argument "level": got 10, wanted at most 9 for gzip'),
    ],
)
def test_compress_when_arguments_do_not_fit_then_refused(
    arg: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pair(tmp_path, b"x") as (src, dst), pytest.raises(OSError, match=words):
        prepare(COMPRESS, context_of(src, dst, **{**USUAL, **arg}))


def test_source_when_its_slots_fit_into_no_file_then_refused(tmp_path: Path) -> None:
    with opened("memfd", tmp_path, name="src") as src, opened("file", tmp_path, name="dst") as dst:
        context = Context(USUAL, {"src": src, "dst": dst}, {}, (0, 2**63 - 4096), True)
        with pytest.raises(OSError, match='"src": is 9223372036854771712 bytes long; no file is long enough'):
            COMPRESS.prepare(context)


def test_target_when_it_will_not_do_then_refused_and_not_changed(tmp_path: Path) -> None:
    with pair(tmp_path, b"x") as (src, dst):
        for body, arg in ((COMPRESS, USUAL), (DECOMPRESS, {"format": "auto"})):
            with pytest.raises(OSError, match='"dst": is the same file'):
                prepare(body, context_of(src, src, **arg))
            context = context_of(src, dst, **arg)
            context.whole = False
            with pytest.raises(OSError, match="ranges: wanted none"):
                prepare(body, context)
            lay_out(dst, 3, [(0, b"abc")])
            with pytest.raises(OSError, match='"dst": is 3 bytes long, wanted an empty file'):
                prepare(body, context_of(src, dst, **arg))
            assert content(dst) == b"abc"
            lay_out(dst, 0, [])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"plain text", "at 0: begins with 706c6169, wanted a zstd or a gzip file"),
        (zstandard.compress(b"x" * 999)[:-1], "ends within the frame that begins at 0"),
        (zstandard.compress(b"x" * 999) + b"garbage", "not a frame of zstd"),
        (gzip.compress(b"x" * 999, mtime=0)[:-9], "ends within a member"),
        (b"", "at 0: is empty, wanted"),
        (
            struct.pack("<IBQ", 0xFD2FB528, 0xE0, 2**63 + 5) + b"\1\0\0",
            "claims to become 9223372036854775813",
        ),
        (gzip.compress(b"x" * 999, mtime=0) + b"\x1f\x8bgarbage", "cannot be decompressed"),
        (gzip.compress(b"x" * 999, mtime=0) + b"\x1f", "ends within a member"),
        (b"\x1f\x8b\x08\x04" + bytes(30), "cannot be decompressed|ends within"),
        (b"\x50\x2a\x4d\x18\xff\xff\xff\xff", "ends within the frame that begins at 0"),
    ],
)
def test_source_when_broken_then_it_says_where(data: bytes, words: str, tmp_path: Path) -> None:
    with pair(tmp_path, data) as (src, dst), pytest.raises(OSError, match=words):
        whole(DECOMPRESS, context_of(src, dst, format="auto"), [])


@pytest.mark.parametrize(
    "tail", [b"garbage", b"\0" * 9 + b"x", b"x" * (BUFFER + 5), b"\0" + gzip.compress(b"no", mtime=0)]
)
def test_gzip_when_garbage_follows_then_all_before_it_as_gzip_does(tail: bytes, tmp_path: Path) -> None:
    data, made = some(70_000), gzip.compress(some(70_000)) + gzip.compress(b"and more") + tail
    by_gzip = subprocess.run(["gzip", "-dc"], input=made, capture_output=True, check=False)
    assert (by_gzip.returncode, by_gzip.stdout) == (2, data + b"and more")
    assert b"trailing garbage ignored" in by_gzip.stderr
    with pair(tmp_path, made) as (src, dst):
        told = whole(DECOMPRESS, context_of(src, dst, format="auto"), [])
        assert content(dst) == by_gzip.stdout
    assert (told["bytes"], told["garbage"]) == (len(by_gzip.stdout), len(tail))


@pytest.mark.parametrize("zeros", [1, 9, BUFFER + 5])
def test_gzip_when_zeros_follow_then_nothing_is_said(zeros: int, tmp_path: Path) -> None:
    with pair(tmp_path, gzip.compress(b"abc") + bytes(zeros)) as (src, dst):
        told = whole(DECOMPRESS, context_of(src, dst, format="auto"), [])
        assert content(dst) == b"abc"
        assert (told["bytes"], told["compressed"], "garbage" in told) == (3, src.size(), False)


@pytest.mark.parametrize("log", [28, 31])
def test_zstd_when_its_window_is_larger_then_refused_or_allowed(log: int, tmp_path: Path) -> None:
    data = some(300_000)
    made = by_tool(["zstd", "-q", "-c", "--ultra", f"--long={log}"], data)
    with pair(tmp_path, made) as (src, dst):
        with pytest.raises(OSError, match=f"needs a window of {1 << log} bytes.*window_log={log} to allow"):
            whole(DECOMPRESS, context_of(src, dst, format="auto"), [])
        assert content(dst) == b""
        with pytest.raises(OSError, match=f"window_log={log}"):
            whole(DECOMPRESS, context_of(src, dst, format="auto", window_log=log - 1), [])
        whole(DECOMPRESS, context_of(src, dst, format="auto", window_log=log), [])
        assert content(dst) == data


def test_gzip_when_there_are_only_zeros_then_refused(tmp_path: Path) -> None:
    with pair(tmp_path, bytes(99)) as (src, dst), pytest.raises(OSError, match="cannot be decompressed"):
        whole(DECOMPRESS, context_of(src, dst, format="gzip"), [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"\x50\x2a\x4d\x18\0\0\0\0" * 200_000,
        struct.pack("<IBB", 0xFD2FB528, 0x20, 0) + b"\0\0\0" * 200_000 + b"\1\0\0",
    ],
)
def test_zstd_when_there_are_too_many_headers_then_the_chunk_can_be_recalled(
    data: bytes, tmp_path: Path
) -> None:
    with pair(tmp_path, data) as (src, dst):
        assert find_zstd(src) is None
        context = context_of(src, dst, format="zstd")
        prepare(DECOMPRESS, context)
        control = Recorder(stop_after=1000)
        assert DECOMPRESS.run(context, 0, len(data), control) == (0, None)
        assert len(control.positions) == 1001
        reached, part = DECOMPRESS.run(context, 0, len(data), Recorder())
        assert (reached, part) == (len(data), {"bytes": 0, "compressed": len(data), "frames": 0, "_crc": 0})


def test_finish_when_it_is_stopped_then_broken_off_and_done_later(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(6 * FRAME)
    with pair(tmp_path, data) as (src, dst):
        context = context_of(src, dst, **USUAL)
        prepared = prepare(COMPRESS, context)
        chunks(COMPRESS, context, [])
        with pytest.raises(OSError, match="stopped before all frames") as caught:
            COMPRESS.finish(context, prepared, Recorder(stop_after=2))
        assert caught.value.errno == errno.ECANCELED
        COMPRESS.finish(context, prepared, Recorder())
        assert (
            subprocess.run(TOOLS["zstd"], input=content(dst), capture_output=True, check=True).stdout == data
        )


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["zstd", "gzip"]),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1),
)
def test_source_when_any_bytes_are_changed_then_an_error_or_the_same(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]]
) -> None:
    data = b"".join(b"%d " % i for i in range(40_000))
    with pair(tmp_path, data) as (src, dst):
        whole(COMPRESS, context_of(src, dst, **{**USUAL, "format": kind}), [])
        made = bytearray(content(dst))
    for at, value in changes:
        made[-1 - at if at % 2 else at] = value
    with pair(tmp_path, bytes(made)) as (src, dst):
        try:
            whole(DECOMPRESS, context_of(src, dst, format=kind), [len(made) // 2])
        except OSError:
            return
        # Bytes that no checksum covers: the system's number in gzip, the table in zstd.
        assert content(dst) == data


def test_wipe_when_called_then_nothing_is_known(tmp_path: Path) -> None:
    with pair(tmp_path, zstandard.compress(some(MIB))) as (src, dst):
        whole(DECOMPRESS, context_of(src, dst, format="auto"), [])
    DECOMPRESS.wipe()
    assert DECOMPRESS._known is None  # type: ignore[attr-defined]
    assert not any(DECOMPRESS._buffer)  # type: ignore[attr-defined]
