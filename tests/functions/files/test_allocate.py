"""file.allocate: storage is reserved, and freed by an undo; no byte changes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.host.files import holes
from ktaskd.host.files.extents import read_unallocated
from ktaskd.model.function import Access
from ktaskd.model.source import SourceKind
from ktaskd.worker.sources import Source
from tests.fault.compare import first_difference
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
)
from tests.support.sources import facts_of

BODY = find("file.allocate")
PAGES = 48


def storage(source: Source) -> int:
    return os.fstat(source.fd).st_blocks * 512


def has_map(directory: Path) -> bool:
    """Whether the file system reports storage that is reserved but not written."""
    with opened("file", directory) as source:
        return read_unallocated(source.fd, 0, PAGE) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, PAGE, PAGE + 1, 16 * MIB + 1])
def test_whole_when_allocated_then_it_has_storage_and_no_byte_changed(
    kind: str, size: int, tmp_path: Path
) -> None:
    with opened(kind, tmp_path) as source:
        lay_out(source, size, [(PAGE, b"x" * 10)] if size > PAGE + 10 else [])
        fit(source, kind, size)
        before = content(source)
        context = context_of((0, size), whole=True, data=source)
        prepare(BODY, context)
        assert BODY.run(context, 0, size, Recorder()) == (size, None)
        assert content(source) == before
        assert storage(source) >= -(-size // PAGE) * PAGE


@pytest.mark.parametrize("kind", ["memfd", "shm", "file"])
def test_range_when_beyond_the_end_then_the_file_is_that_long_until_it_is_restored(
    kind: str, tmp_path: Path
) -> None:
    with opened(kind, tmp_path, own_offset=True) as source:
        os.pwrite(source.fd, b"x" * 5000, 0)
        before = storage(source)
        context = context_of((PAGE, MIB + 5), data=source)
        prepared = prepare(BODY, context)
        assert prepared["by_prepare"] == [[5000, MIB + 5]]
        assert os.fstat(source.fd).st_size == MIB + 5
        control = Recorder()
        BODY.run(context, PAGE, MIB + 5, control)
        assert storage(source) >= MIB
        assert BODY.undo(context, PAGE, MIB + 5, control.holes, Recorder()) == []
        BODY.restore(context, prepared)
        assert content(source) == b"x" * 5000
        assert storage(source) == before


@pytest.mark.parametrize("kind", ["memfd", "shm", "file"])
def test_undo_when_it_was_run_twice_then_also_the_last_page_is_gone(kind: str, tmp_path: Path) -> None:
    """Memory that is reserved again is no longer a hole: the kernel clears it."""
    end = MIB + 5
    with opened(kind, tmp_path, own_offset=True) as source:
        os.pwrite(source.fd, b"x" * PAGE, 0)
        before = storage(source)
        context = context_of((0, end), data=source)
        prepared = prepare(BODY, context)
        control = Recorder()
        for _ in range(2):
            BODY.run(context, 0, end, control)
        BODY.undo(context, 0, end, control.holes, Recorder())
        BODY.restore(context, prepared)
        assert (os.fstat(source.fd).st_size, storage(source)) == (PAGE, before)


def test_restore_when_sealed_against_shrinking_then_it_says_so(tmp_path: Path) -> None:
    with opened("sealed", tmp_path) as source:
        fit(source, "sealed", PAGE)
        context = context_of((0, 2 * PAGE), data=source)
        prepared = prepare(BODY, context)
        assert prepared["by_prepare"] == [[PAGE, 2 * PAGE]]
        with pytest.raises(OSError, match=r'source "data": cannot cut bytes 4096 to 8192'):
            BODY.restore(context, prepared)


@pytest.mark.parametrize("kind", ["memfd", "file"])
def test_restore_when_somebody_wrote_beyond_the_end_then_it_stays(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path, own_offset=True) as source:
        context = context_of((0, 8 * PAGE), data=source)
        prepared = prepare(BODY, context)
        control = Recorder()
        BODY.run(context, 0, 8 * PAGE, control)
        os.pwrite(source.fd, b"theirs", 5 * PAGE)
        BODY.undo(context, 0, 8 * PAGE, control.holes, Recorder())
        BODY.restore(context, prepared)
        assert content(source) == bytes(5 * PAGE) + b"theirs" + bytes(3 * PAGE - 6)
        assert storage(source) == PAGE


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Two pieces are reserved beyond the end, and the new end lies inside the first of them.
@example("file", False, [], [(48, 1), (50, 1)], (0, 48 * PAGE + 1), [])
@given(
    kind=st.sampled_from(KINDS),
    own_offset=st.booleans(),
    data=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=6),
    reserved=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5)), max_size=3),
    span=st.tuples(st.integers(0, 60 * PAGE), st.integers(0, 60 * PAGE)),
    written=st.just([]) | st.lists(st.integers(0, PAGES * PAGE - 1), max_size=3),
)
def test_span_when_undone_then_bytes_and_storage_as_before_and_later_writes_stay(
    tmp_path: Path,
    kind: str,
    own_offset: bool,
    data: list[tuple[int, int]],
    reserved: list[tuple[int, int]],
    span: tuple[int, int],
    written: list[int],
) -> None:
    on_disk = kind == "file"
    start, end = min(span), max(span)
    if kind == "sealed":  # its length could not be restored
        start, end = min(start, PAGES * PAGE), min(end, PAGES * PAGE)
    with opened(kind, tmp_path, own_offset=own_offset) as source:
        lay_out(source, PAGES * PAGE, [(page * PAGE, b"x" * count * PAGE) for page, count in data])
        # Storage that is reserved but not written looks like a hole to lseek.
        for page, count in reserved if on_disk and has_map(tmp_path) else []:
            holes.allocate(source.fd, page * PAGE, (page + count) * PAGE)
        if kind == "sealed":
            seal(source)
        os.fsync(source.fd)
        before, map_before = content(source), read_unallocated(source.fd, 0, 80 * PAGE)
        storage_before, holes_before = storage(source), hole_map(source)
        context = context_of((start, end), data=source)
        prepared = prepare(BODY, context)
        control = Recorder()
        BODY.run(context, start, end, control)
        for position in written:
            os.pwrite(source.fd, b"w", position)
        expected = bytearray(before)
        for position in written:
            expected[position : position + 1] = b"w"
        assert BODY.undo(context, start, end, control.holes, Recorder()) == []
        BODY.restore(context, prepared)
        # Not asserted with `==`: pytest would take minutes to show a difference.
        assert os.fstat(source.fd).st_size == len(expected)
        assert first_difference(content(source), bytes(expected), ()) == ""
        if not written:
            assert hole_map(source) == holes_before
            assert read_unallocated(source.fd, 0, 80 * PAGE) == map_before
            # A disk may keep a block that holds its own records.
            assert storage(source) - storage_before in ({0, PAGE} if on_disk else {0})


@pytest.mark.parametrize("own_offset", [False, True])
def test_undo_when_some_was_reserved_before_then_that_stays_also_beyond_the_end(
    own_offset: bool, tmp_path: Path
) -> None:
    if not has_map(tmp_path):
        pytest.skip("a file system that tells what is reserved but not written")
    with opened("file", tmp_path, own_offset=own_offset) as source:
        os.ftruncate(source.fd, 4 * PAGE)
        for page in (1, 6):
            holes.allocate(source.fd, page * PAGE, (page + 1) * PAGE)
        before = read_unallocated(source.fd, 0, 20 * PAGE)
        assert before == [(0, PAGE), (2 * PAGE, 6 * PAGE), (7 * PAGE, 20 * PAGE)]
        context = context_of((0, 10 * PAGE), data=source)
        prepared = prepare(BODY, context)
        control = Recorder()
        BODY.run(context, 0, 10 * PAGE, control)
        assert read_unallocated(source.fd, 0, 10 * PAGE) == []
        BODY.undo(context, 0, 10 * PAGE, control.holes, Recorder())
        BODY.restore(context, prepared)
        assert os.fstat(source.fd).st_size == 4 * PAGE
        assert read_unallocated(source.fd, 0, 20 * PAGE) == before


@pytest.mark.skipif(shutil.which("filefrag") is None, reason="needs filefrag, to compare with")
def test_map_when_read_then_as_filefrag(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("w+b") as file:
        fd = file.fileno()
        os.ftruncate(fd, 1000 * PAGE)
        for page in range(0, 600, 4):  # more pieces than one answer holds
            os.pwrite(fd, b"x", page * PAGE)
        holes.allocate(fd, 700 * PAGE, 720 * PAGE)
        os.fsync(fd)
        found = read_unallocated(fd, 0, 1000 * PAGE)
        if found is None:
            pytest.skip("a file system with a map")
        part = read_unallocated(fd, 10 * PAGE + 5, 13 * PAGE)
    done = subprocess.run(["filefrag", "-b4096", "-v", path], capture_output=True, text=True, check=True)
    pieces = re.findall(r"^ *\d+: +(\d+)\.\. *(\d+):", done.stdout, re.MULTILINE)
    data = [(int(first), int(last) + 1) for first, last in pieces]
    assert len(data) > 100
    edges = [0, *(edge for piece in data for edge in piece), 1000]
    wanted = [(first * PAGE, after * PAGE) for first, after in pairwise(edges)][::2]
    assert found == [piece for piece in wanted if piece[0] < piece[1]]
    assert part == [(10 * PAGE + 5, 12 * PAGE)]


def test_chunk_when_recalled_then_given_back(tmp_path: Path) -> None:
    with opened("memfd", tmp_path) as source:
        os.ftruncate(source.fd, 32 * MIB)
        control = Recorder(stop_after=2)
        assert BODY.run(context_of((0, 32 * MIB), data=source), 5 * MIB, 32 * MIB, control) == (
            16 * MIB,
            None,
        )
        assert storage(source) == 11 * MIB


def test_source_when_shorter_or_sealed_then_a_clear_error(tmp_path: Path) -> None:
    import fcntl

    with opened("memfd", tmp_path) as source:
        os.ftruncate(source.fd, PAGE)
        with pytest.raises(OSError, match=r'source "data": ends at') as caught:
            BODY.run(context_of((0, 2 * PAGE), data=source), 0, 2 * PAGE, Recorder())
        assert caught.value.errno == errno.ENODATA
        fcntl.fcntl(source.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        source.facts = facts_of(source.fd)
        says = r'source "data": cannot grow from 4096 to 8192 bytes: it is sealed against growing'
        with pytest.raises(OSError, match=says):
            prepare(BODY, context_of((0, 2 * PAGE), data=source))


def test_disk_when_full_then_the_source_is_named_and_undo_leaves_it_as_it_was(small_disk: Path) -> None:
    with (small_disk / "file").open("w+b") as file:
        source = Source(os.dup(file.fileno()), facts_of(file.fileno(), own_offset=True))
        try:
            os.pwrite(source.fd, b"x" * PAGE, PAGE)
            context = context_of((0, 64 * MIB), data=source)
            prepared = prepare(BODY, context)
            control = Recorder()
            says = r'source "data": cannot allocate bytes \d+ to \d+: no space left on device'
            with pytest.raises(OSError, match=says) as caught:
                for start in range(0, 64 * MIB, MIB):
                    BODY.run(context, start, start + MIB, control)
            assert caught.value.errno == errno.ENOSPC
            assert storage(source) > 2 * MIB
            # The failed quantum is undone as well: a disk may have reserved a part of it.
            assert control.positions[-1] == start + MIB
            BODY.undo(context, 0, control.positions[-1], control.holes, Recorder())
            BODY.restore(context, prepared)
            assert content(source) == bytes(PAGE) + b"x" * PAGE
            assert storage(source) == PAGE
        finally:
            source.close()


def test_undo_when_no_holes_can_be_made_then_it_stays_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(start: int, end: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    with opened("file", tmp_path, own_offset=True) as source:
        os.ftruncate(source.fd, MIB)
        context = context_of((0, MIB), data=source)
        control = Recorder()
        BODY.run(context, 0, MIB, control)
        monkeypatch.setattr(source, "punch", refuse)
        assert BODY.undo(context, 0, MIB, control.holes, Recorder()) == []


def test_report_when_nothing_is_known_then_nothing_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("file", tmp_path, access=Access.READ_WRITE) as source:
        os.ftruncate(source.fd, MIB)
        assert source.facts.kind is SourceKind.FILE
        monkeypatch.setattr(source, "unallocated", lambda start, end: None)
        control = Recorder()
        BODY.run(context_of((0, MIB), data=source), 0, MIB, control)
        assert control.spans == []
