"""Copies are equal, holes included, and their undo reports everything that it cannot restore.

Guards: I2
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.functions.memory.node_pages import STEP
from ktaskd.functions.quanta import QUANTUM
from ktaskd.model.function import Access
from ktaskd.worker.sources import Source
from tests.functions.inprocess import (
    KINDS,
    MIB,
    PAGE,
    Recorder,
    content,
    context_of,
    fit,
    hole_map,
    lay_out,
    opened,
    prepare,
    seal,
    take_turns,
)

BODY = find("file.copy")

layouts = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=6)
"""Positions of data, as (page, number of pages)."""


def pages(layout: Sequence[tuple[int, int]], byte: bytes) -> list[tuple[int, bytes]]:
    return [(page * PAGE, byte * count * PAGE) for page, count in layout]


def positions(spans: Sequence[Sequence[int]]) -> set[int]:
    return {position for start, end in spans for position in range(start, end)}


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("src_own", [False, True])
@pytest.mark.parametrize("dst_kind", KINDS)
@pytest.mark.parametrize("src_kind", KINDS)
def test_whole_when_copied_then_equal_and_holes_are_kept(
    src_kind: str, dst_kind: str, src_own: bool, checksum: bool, tmp_path: Path
) -> None:
    size = 3 * MIB + 77
    with opened(src_kind, tmp_path, own_offset=src_own, name="src") as src, opened(dst_kind, tmp_path) as dst:
        lay_out(src, size, [(PAGE, b"a" * 5000), (MIB, b"b" * MIB), (3 * MIB, b"c" * 77)])
        if src_kind == "sealed":
            seal(src)
        if dst_kind == "sealed":
            seal(dst)
        context = context_of((0, size), whole=True, arg={"checksum": checksum}, src=src, dst=dst)
        prepared = prepare(BODY, context)
        wanted = {"bytes": size, **({"crc32": zlib.crc32(content(src))} if checksum else {})}
        assert BODY.run(context, 0, size, Recorder()) == (size, wanted)
        BODY.finish(context, prepared, Recorder())
        assert content(dst) == content(src)
        # From 5000 on, the second page of data holds only zeros.
        assert hole_map(dst) == [(PAGE, 3 * PAGE), (MIB, 2 * MIB), (3 * MIB, size)]


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, QUANTUM + 1])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_when_dst_was_longer_then_it_has_the_length_of_src(
    kind: str, size: int, tmp_path: Path
) -> None:
    with opened(kind, tmp_path, name="src") as src, opened("file", tmp_path) as dst:
        os.pwrite(src.fd, b"s" * size, 0)
        if kind == "sealed":
            seal(src)
        os.pwrite(dst.fd, b"d" * (size + PAGE), 0)
        context = context_of((0, size), whole=True, src=src, dst=dst)
        prepared = prepare(BODY, context)
        assert os.fstat(dst.fd).st_size == size + PAGE
        BODY.run(context, 0, size, Recorder())
        BODY.finish(context, prepared, Recorder())
        assert content(dst) == b"s" * size


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_span_when_undone_then_only_the_dirty_may_differ(tmp_path: Path, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        take_turns(patch, data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1)))
        span_is_undone(tmp_path, data)


def span_is_undone(tmp_path: Path, data: st.DataObject) -> None:
    src_kind, dst_kind = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(KINDS))
    src_own, dst_own = data.draw(st.booleans()), data.draw(st.booleans())
    size = 46 * PAGE + data.draw(st.integers(0, PAGE))
    old_size = data.draw(st.integers(0, 50 * PAGE))
    edges = data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2).map(sorted))
    start, end = edges
    with (
        opened(src_kind, tmp_path, own_offset=src_own, name="src") as src,
        opened(dst_kind, tmp_path, own_offset=dst_own) as dst,
    ):
        lay_out(src, size, pages(data.draw(layouts), b"s"))
        os.ftruncate(src.fd, size)
        lay_out(dst, 0, pages(data.draw(layouts), b"d"))
        os.ftruncate(dst.fd, old_size)
        if src_kind == "sealed":
            seal(src)
        if dst_kind == "sealed" and old_size >= end:
            seal(dst)
        before, before_map = content(dst), hole_map(dst)
        context = context_of((start, end), src=src, dst=dst)
        prepared = prepare(BODY, context)
        control = Recorder()
        middle = data.draw(st.integers(start, end))
        BODY.run(context, start, middle, control)
        BODY.run(context, middle, end, control)
        expected = bytearray(before.ljust(end, b"\0"))
        expected[start:end] = content(src)[start:end]
        assert content(dst) == expected

        kept = BODY.undo(context, start, end, sorted(control.holes), Recorder())
        BODY.restore(context, prepared)
        after = content(dst)
        dirty = positions(kept)
        assert len(after) == old_size
        assert all(a == b for i, (a, b) in enumerate(zip(after, before, strict=True)) if i not in dirty)
        # Only former data is dirty, never a hole.
        assert dirty <= positions(before_map)
        if dst_own:
            assert dirty == positions(before_map) & set(range(start, end))


def test_chunk_when_recalled_then_no_prior_for_what_was_not_reached(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path, own_offset=True) as dst:
        os.pwrite(src.fd, b"s" * (3 * BODY.quantum), 0)
        os.ftruncate(dst.fd, 3 * BODY.quantum)
        context = context_of((0, 3 * BODY.quantum), src=src, dst=dst)
        control = Recorder(stop_after=2)
        reached, _ = BODY.run(context, 0, 3 * BODY.quantum, control)
        assert reached == 2 * BODY.quantum
        assert control.spans == [(0, BODY.quantum), (BODY.quantum, 2 * BODY.quantum)]
        assert hole_map(dst) == [(0, 2 * BODY.quantum)]


def test_chunk_when_it_fails_then_the_position_covers_what_was_touched_and_no_more(tmp_path: Path) -> None:
    with opened("memfd", tmp_path, name="src") as src, opened("file", tmp_path, own_offset=True) as dst:
        os.pwrite(src.fd, b"s" * (3 * BODY.quantum), 0)
        os.ftruncate(dst.fd, 3 * BODY.quantum)
        context = context_of((0, 3 * BODY.quantum), src=src, dst=dst)

        def shorten(position: int) -> None:
            if position == BODY.quantum:
                os.ftruncate(src.fd, BODY.quantum + PAGE)

        control = Recorder(on_quantum=shorten)
        with pytest.raises(OSError, match="the job needs bytes up to") as caught:
            BODY.run(context, 0, 3 * BODY.quantum, control)
        assert caught.value.errno == errno.ENODATA
        assert control.positions[-1] == BODY.quantum
        assert hole_map(dst) == [(0, BODY.quantum)]


def test_chunk_when_the_disk_is_full_then_what_was_touched_can_be_undone(
    small_disk: Path, tmp_path: Path
) -> None:
    path = small_disk / "dst"
    with opened("memfd", tmp_path, name="src") as src, path.open("w+b") as file:
        from tests.support.sources import facts_of

        os.pwrite(src.fd, b"s" * (8 * MIB), 0)
        dst = Source(os.dup(file.fileno()), facts_of(file.fileno(), own_offset=True))
        try:
            context = context_of((0, 8 * MIB), whole=True, src=src, dst=dst)
            prepared = prepare(BODY, context)
            control = Recorder()
            with pytest.raises(
                OSError, match=r'source "dst": cannot write .*: no space left on device'
            ) as caught:
                BODY.run(context, 0, 8 * MIB, control)
            assert caught.value.errno == errno.ENOSPC
            assert BODY.undo(context, 0, control.positions[-1], control.holes, Recorder()) == []
            assert hole_map(dst) == []
            BODY.restore(context, prepared)
            assert os.fstat(dst.fd).st_size == 0
        finally:
            dst.close()


@pytest.mark.parametrize(
    "number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, 0, errno.EINTR]
)
def test_kernel_copy_when_refused_then_read_and_written(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = os.copy_file_range

    def refuse(src: int, dst: int, count: int, *args: Any, **kwargs: Any) -> int:
        calls.append(count)
        if number == 0:
            return 0
        if number == errno.EINTR and len(calls) > 1:
            return real(src, dst, min(count, 5000), *args, **kwargs)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    with opened("file", tmp_path, own_offset=True, name="src") as src, opened("file", tmp_path) as dst:
        os.pwrite(src.fd, os.urandom(MIB), 0)
        context = context_of((0, MIB), src=src, dst=dst)
        prepare(BODY, context)
        BODY.run(context, 0, MIB, Recorder())
        assert content(dst) == content(src)
    assert calls


def test_kernel_copy_when_it_fails_otherwise_then_that_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    with opened("file", tmp_path, own_offset=True, name="src") as src, opened("file", tmp_path) as dst:
        os.pwrite(src.fd, b"s" * MIB, 0)
        os.ftruncate(dst.fd, MIB)
        control = Recorder()
        with pytest.raises(OSError, match="broken"):
            BODY.run(context_of((0, MIB), src=src, dst=dst), 0, MIB, control)
        assert control.positions[-1] == MIB


@pytest.mark.parametrize("src_own", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_src_when_it_has_holes_then_the_data_of_dst_is_punched_there(
    kind: str, src_own: bool, tmp_path: Path
) -> None:
    with opened("file", tmp_path, own_offset=src_own, name="src") as src, opened(kind, tmp_path) as dst:
        lay_out(src, 8 * PAGE, [(2 * PAGE, b"s" * PAGE), (5 * PAGE, b"s" * PAGE)])
        os.pwrite(dst.fd, b"d" * (8 * PAGE), 0)
        if kind == "sealed":
            seal(dst)
        context = context_of((0, 8 * PAGE), src=src, dst=dst)
        BODY.run(context, 0, 8 * PAGE, Recorder())
        assert content(dst) == content(src)
        assert hole_map(dst) == [(2 * PAGE, 3 * PAGE), (5 * PAGE, 6 * PAGE)]


def test_punch_when_the_file_system_cannot_then_zeros_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("file", tmp_path, own_offset=True, name="src") as src, opened("file", tmp_path) as dst:
        os.ftruncate(src.fd, MIB)
        os.pwrite(dst.fd, b"d" * MIB, 0)

        def refuse(start: int, end: int) -> None:
            raise OSError(errno.EOPNOTSUPP, "cannot")

        monkeypatch.setattr(dst, "punch", refuse)
        context = context_of((0, MIB), src=src, dst=dst)
        BODY.run(context, 0, MIB, Recorder())
        assert content(dst) == bytes(MIB)


def test_undo_when_a_hole_cannot_be_made_then_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path) as dst:

        def refuse(start: int, end: int) -> None:
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(dst, "punch", refuse)
        context = context_of((0, MIB), src=src, dst=dst)
        assert BODY.undo(context, 0, MIB, [(0, PAGE)], Recorder()) == [(0, MIB)]


def test_dst_when_only_writable_and_shared_then_all_is_dirty(tmp_path: Path) -> None:
    with (
        opened("file", tmp_path, name="src") as src,
        opened("file", tmp_path, access=Access.WRITE) as dst,
    ):
        os.pwrite(src.fd, b"s" * PAGE, 0)
        context = context_of((0, PAGE), src=src, dst=dst)
        prepare(BODY, context)
        control = Recorder()
        BODY.run(context, 0, PAGE, control)
        assert content(dst) == b"s" * PAGE
        assert control.holes == []
        assert BODY.undo(context, 0, PAGE, control.holes, Recorder()) == [(0, PAGE)]


def test_shared_offset_when_copied_then_never_moved(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="src") as src, opened("file", tmp_path) as dst:
        lay_out(src, MIB, [(PAGE, b"x")])
        os.lseek(src.fd, 11, os.SEEK_SET)
        os.lseek(dst.fd, 22, os.SEEK_SET)
        context = context_of((0, MIB), whole=True, src=src, dst=dst)
        prepared = prepare(BODY, context)
        BODY.run(context, 0, MIB, Recorder())
        BODY.finish(context, prepared, Recorder())
        assert os.lseek(src.fd, 0, os.SEEK_CUR) == 11
        assert os.lseek(dst.fd, 0, os.SEEK_CUR) == 22


@pytest.mark.parametrize("cuts", [[], [PAGE], [MIB, 2 * MIB, 5 * MIB]])
def test_checksum_when_cut_anywhere_then_that_of_the_whole(cuts: list[int], tmp_path: Path) -> None:
    """The checksum also covers recalled chunks and holes."""
    size = 5 * QUANTUM + 9
    with opened("file", tmp_path, own_offset=True, name="src") as src, opened("file", tmp_path) as dst:
        lay_out(src, size, [(PAGE, b"a" * 5000), (3 * MIB, b"b" * 3 * MIB)])
        context = context_of((0, size), whole=True, arg={"checksum": True}, src=src, dst=dst)
        prepare(BODY, context)
        parts = []
        for start, end in pairwise([0, *cuts, size]):
            reached, part = BODY.run(context, start, end, Recorder(stop_after=2))
            parts += [part, BODY.run(context, reached, end, Recorder())[1]]
        found = BODY.combine(context, [part for part in parts if part is not None])
        assert found == {"bytes": size, "crc32": zlib.crc32(content(src))}
        assert BODY.combine(context, []) == {"bytes": 0, "crc32": 0}


@pytest.mark.parametrize("ways", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("src_kind", KINDS)
@pytest.mark.parametrize("dst_kind", ["sealed", "file"])
def test_copy_when_by_any_way_then_the_same_bytes_holes_and_sum(
    src_kind: str, dst_kind: str, ways: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_turns(monkeypatch, *ways)
    size = 13 * MIB + 5
    with opened(src_kind, tmp_path, own_offset=True, name="src") as src, opened(dst_kind, tmp_path) as dst:
        lay_out(src, size, [(MIB, os.urandom(3 * MIB)), (5 * MIB, b"a"), (7 * MIB, os.urandom(6 * MIB + 5))])
        fit(dst, dst_kind, size)
        if src_kind == "sealed":
            seal(src)
        for checksum in (False, True):
            context = context_of((0, size), whole=True, arg={"checksum": checksum}, src=src, dst=dst)
            reached, part = BODY.run(context, 0, size, Recorder())
            assert (reached, content(dst)) == (size, content(src))
            assert hole_map(dst) == hole_map(src)
        assert part == {"bytes": size, "crc32": zlib.crc32(content(src))}


@pytest.mark.parametrize("ways", [(0,), (1,), (0, 1)])
def test_memory_when_copied_by_any_way_then_its_pages_are_counted(
    ways: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_turns(monkeypatch, *ways)
    size = 20 * MIB
    with opened("sealed", tmp_path, name="src") as src, opened("sealed", tmp_path) as dst:
        lay_out(src, size, [(0, os.urandom(size))])
        seal(src)
        fit(dst, "sealed", size)
        _, part = find("mem.copy").run(context_of((0, size), src=src, dst=dst), 0, size, Recorder())
        assert content(dst) == content(src)
        assert part is not None
        assert sum(part["pages"].values()) == part["pages_sampled"] == size // STEP


def test_src_when_cut_while_its_pages_are_written_then_that_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write from pages that are gone fails with EFAULT, which says nothing about src."""
    with opened("file", tmp_path, own_offset=True, name="src") as src, opened("file", tmp_path) as dst:
        os.pwrite(src.fd, b"s" * 5 * MIB, 0)
        os.ftruncate(dst.fd, 5 * MIB)
        take_turns(monkeypatch, 1)

        def cached(start: int, end: int) -> memoryview:
            view = Source.cached(src, start, end)
            assert view is not None
            os.ftruncate(src.fd, PAGE)
            return view

        monkeypatch.setattr(src, "cached", cached)
        with pytest.raises(OSError, match='"src": ends at 4096, but the job needs bytes up to') as caught:
            BODY.run(context_of((0, 5 * MIB), src=src, dst=dst), 0, 5 * MIB, Recorder())
        assert caught.value.errno == errno.ENODATA
