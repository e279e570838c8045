"""mem.fill and mem.populate, on memory and files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Json
from ktaskd.functions.memory.node_pages import STEP
from ktaskd.functions.quanta import QUANTUM
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
    seal,
    take_turns,
)

FILL = find("mem.fill")
POPULATE = find("mem.populate")
MEMORY = ("sealed", "memfd", "shm")


def pages_told(part: Json | None) -> int | None:
    """Number of pages that a chunk counted on nodes; None = it counted none."""
    if part is None:
        return None
    count = int(sum(part["pages"].values()))
    assert count == part["pages_sampled"]
    return count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, QUANTUM + PAGE + 1])
def test_fill_when_done_then_all_bytes_have_the_value(kind: str, size: int, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as source:
        fit(source, kind, size)
        context = context_of((0, size), arg={"value": 0xA5}, data=source)
        reached, part = FILL.run(context, 0, size, Recorder())
        assert reached == size
        assert pages_told(part) == (-(-size // PAGE) if kind == "sealed" and size else None)
        assert content(source) == b"\xa5" * size


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(KINDS),
    st.integers(0, 255),
    st.integers(0, 3 * MIB),
    st.integers(0, 3 * MIB),
    st.booleans(),
)
def test_fill_when_any_span_then_nothing_outside_changes(
    tmp_path: Path, kind: str, value: int, start: int, end: int, again: bool
) -> None:
    start, end = min(start, end), max(start, end)
    with opened(kind, tmp_path) as source:
        lay_out(source, 3 * MIB, [(MIB, b"x" * MIB)])
        if kind == "sealed":
            seal(source)
        expected = bytearray(content(source))
        expected[start:end] = bytes([value]) * (end - start)
        context = context_of((start, end), arg={"value": value}, data=source)
        for _ in range(1 + again):
            reached, part = FILL.run(context, start, end, Recorder())
            assert reached == end
            begun = len(range(-(-start // PAGE) * PAGE, end, PAGE))  # pages that begin in the span
            assert pages_told(part) == (begun if kind == "sealed" and start < end else None)
        assert content(source) == expected


@pytest.mark.parametrize("kind", ["sealed", "file"])
def test_fill_when_recalled_then_only_what_was_reached(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as source:
        fit(source, kind, 4 * QUANTUM)
        context = context_of((0, 4 * QUANTUM), arg={"value": 1}, data=source)
        reached, _ = FILL.run(context, PAGE, 4 * QUANTUM, Recorder(stop_after=2))
        assert reached == 2 * QUANTUM
        assert content(source) == bytes(PAGE) + b"\1" * (reached - PAGE) + bytes(2 * QUANTUM)


@pytest.mark.parametrize("kind", KINDS)
def test_fill_when_the_source_is_shorter_then_an_error_and_it_does_not_grow(
    kind: str, tmp_path: Path
) -> None:
    with opened(kind, tmp_path) as source:
        fit(source, kind, PAGE)
        context = context_of((0, 2 * PAGE), arg={"value": 1}, data=source)
        with pytest.raises(OSError, match="the job needs bytes up to") as caught:
            FILL.run(context, 0, 2 * PAGE, Recorder())
        assert caught.value.errno == errno.ENODATA
        assert content(source) == bytes(PAGE)


def test_fill_when_the_disk_is_full_then_no_space(small_disk: Path) -> None:
    path = small_disk / "file"
    (small_disk / "other").write_bytes(b"x" * (300 << 10))  # so that it is not full between two quanta
    with path.open("w+b") as file:
        os.ftruncate(file.fileno(), 64 * MIB)
        from tests.support.sources import facts_of

        source = Source(os.dup(file.fileno()), facts_of(file.fileno()))
        try:
            context = context_of((0, 64 * MIB), arg={"value": 1}, data=source)
            control = Recorder()
            says = r'source "data": cannot write bytes \d+ to \d+: no space left on device'
            with pytest.raises(OSError, match=says) as caught:
                FILL.run(context, 0, 64 * MIB, control)
            assert caught.value.errno == errno.ENOSPC
            # It reports exactly how far it got.
            reached = control.positions[-1]
            assert content(source) == b"\1" * reached + bytes(64 * MIB - reached)
            assert 0 < reached % MIB < reached
            # As shared memory: populating fails with an errno where touching would raise SIGBUS.
            with pytest.raises(OSError, match="full") as caught:
                POPULATE.run(context, 0, 64 * MIB, Recorder())
            assert caught.value.errno == errno.EFAULT
        finally:
            source.close()


@pytest.mark.parametrize("own_offset", [False, True])
@pytest.mark.parametrize("kind", MEMORY)
def test_populate_when_done_then_no_byte_changed_and_no_hole_is_left(
    kind: str, own_offset: bool, tmp_path: Path
) -> None:
    with opened(kind, tmp_path, own_offset=own_offset) as source:
        lay_out(source, 5 * MIB + 1, [(MIB, b"x" * 5000)])
        if kind == "sealed":
            seal(source)
        before = content(source)
        reached, part = POPULATE.run(context_of((0, 0), data=source), 0, 5 * MIB + 1, Recorder())
        assert reached == 5 * MIB + 1
        assert pages_told(part) == 5 * MIB // PAGE + 1
        assert content(source) == before
        assert os.fstat(source.fd).st_blocks * 512 == 5 * MIB + PAGE


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(MEMORY),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=6),
    st.tuples(st.integers(0, 48), st.integers(0, 48)),
    st.lists(st.integers(0, 48 * PAGE - 1), max_size=4),
)
def test_populate_when_undone_then_bytes_and_holes_as_before_and_later_writes_stay(
    tmp_path: Path,
    kind: str,
    own_offset: bool,
    data: list[tuple[int, int]],
    pages: tuple[int, int],
    written: list[int],
) -> None:
    with opened(kind, tmp_path, own_offset=own_offset) as source:
        lay_out(source, 48 * PAGE, [(page * PAGE, b"x" * count * PAGE) for page, count in data])
        if kind == "sealed":
            seal(source)
        start, end = min(pages) * PAGE, max(pages) * PAGE
        holes = hole_map(source)
        control = Recorder()
        context = context_of((start, end), data=source)
        POPULATE.run(context, start, end, control)
        for position in written:
            os.pwrite(source.fd, b"w", position)
        expected = content(source)
        assert POPULATE.undo(context, start, end, control.holes, Recorder()) == []
        assert content(source) == expected
        if not written:
            assert hole_map(source) == holes


def test_populate_when_undone_in_part_then_the_rest_stays(tmp_path: Path) -> None:
    with opened("sealed", tmp_path, own_offset=True) as source:
        fit(source, "sealed", 8 * PAGE)
        control = Recorder()
        context = context_of((0, 8 * PAGE), data=source)
        POPULATE.run(context, 0, 8 * PAGE, control)
        POPULATE.undo(context, 2 * PAGE, 4 * PAGE, control.holes, Recorder())
        assert hole_map(source) == [(0, 2 * PAGE), (4 * PAGE, 8 * PAGE)]


def test_populate_when_zeros_were_stored_before_then_they_stay_stored(tmp_path: Path) -> None:
    for own_offset in (False, True):
        with opened("memfd", tmp_path, own_offset=own_offset) as source:
            lay_out(source, 4 * PAGE, [(PAGE, bytes(PAGE))])
            control = Recorder()
            context = context_of((0, 4 * PAGE), data=source)
            POPULATE.run(context, 0, 4 * PAGE, control)
            POPULATE.undo(context, 0, 4 * PAGE, control.holes, Recorder())
            assert os.fstat(source.fd).st_blocks * 512 == PAGE


def test_populate_when_recalled_then_given_back(tmp_path: Path) -> None:
    with opened("memfd", tmp_path) as source:
        fit(source, "memfd", 4 * POPULATE.quantum)
        context = context_of((0, 4 * POPULATE.quantum), data=source)
        reached, part = POPULATE.run(context, 0, 4 * POPULATE.quantum, Recorder(stop_after=1))
        assert reached == POPULATE.quantum
        assert pages_told(part) == POPULATE.quantum // PAGE
        assert os.fstat(source.fd).st_blocks * 512 == POPULATE.quantum


def test_populate_when_truncated_during_then_an_error_and_no_signal(tmp_path: Path) -> None:
    with opened("memfd", tmp_path) as source:
        fit(source, "memfd", 4 * QUANTUM)
        control = Recorder(on_quantum=lambda position: os.ftruncate(source.fd, QUANTUM) if position else None)
        with pytest.raises(OSError) as caught:
            POPULATE.run(context_of((0, 4 * QUANTUM), data=source), 0, 4 * QUANTUM, control)
        assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("ways", [(0,), (1,), (0, 1, 1)])
@pytest.mark.parametrize("value", [0, 7])
def test_fill_when_long_then_the_same_bytes_and_pages_by_either_way(
    value: int, ways: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_turns(monkeypatch, *ways)
    size, start, end = 24 * MIB, PAGE + 1, 23 * MIB + 5
    with opened("sealed", tmp_path) as source:
        lay_out(source, size, [(MIB, b"x" * 9 * MIB), (size - 1, b"y")])
        seal(source)
        expected = bytearray(content(source))
        expected[start:end] = bytes([value]) * (end - start)
        for _ in range(2):
            reached, part = FILL.run(
                context_of((0, size), arg={"value": value}, data=source), start, end, Recorder()
            )
            assert reached == end
            assert pages_told(part) == len(range(STEP, end, STEP))
            assert content(source) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_fill_when_with_zeros_then_holes_stay_holes(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path, own_offset=True) as source:
        lay_out(source, 3 * QUANTUM, [(MIB, b"x" * MIB)])
        if kind == "sealed":
            seal(source)
        before = hole_map(source)
        context = context_of((0, 3 * QUANTUM), arg={"value": 0}, data=source)
        FILL.run(context, 0, 3 * QUANTUM, Recorder())
        assert content(source) == bytes(3 * QUANTUM)
        assert hole_map(source) == before


@pytest.mark.parametrize("ways", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("own_offset", [False, True])
@pytest.mark.parametrize("kind", MEMORY)
def test_populate_when_done_again_then_the_second_undo_frees_nothing(
    kind: str, own_offset: bool, ways: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages were there before the second job, though nobody has written to them."""
    take_turns(monkeypatch, *ways)
    size = 3 * QUANTUM
    with opened(kind, tmp_path, own_offset=own_offset) as source:
        fit(source, kind, size)
        context = context_of((0, size), data=source)
        first, second = Recorder(), Recorder()
        POPULATE.run(context, PAGE, size, first)
        POPULATE.run(context, 0, size, second)
        assert second.holes == [(0, PAGE)]
        POPULATE.undo(context, 0, size, second.holes, Recorder())
        assert os.fstat(source.fd).st_blocks * 512 == size - PAGE
        POPULATE.undo(context, 0, size, first.holes, Recorder())
        assert os.fstat(source.fd).st_blocks == 0


@pytest.mark.parametrize("own_offset", [False, True])
def test_populate_when_pages_were_reserved_then_its_undo_leaves_them(
    own_offset: bool, tmp_path: Path
) -> None:
    with opened("sealed", tmp_path, own_offset=own_offset) as source:
        fit(source, "sealed", 8 * PAGE)
        os.posix_fallocate(source.fd, 2 * PAGE, 3 * PAGE)
        control, context = Recorder(), context_of((0, 8 * PAGE), data=source)
        POPULATE.run(context, 0, 8 * PAGE, control)
        assert control.holes == [(0, 2 * PAGE), (5 * PAGE, 8 * PAGE)]
        POPULATE.undo(context, 0, 8 * PAGE, control.holes, Recorder())
        assert os.fstat(source.fd).st_blocks * 512 == 3 * PAGE


def test_populate_when_the_kernel_reports_no_pages_then_it_maps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "vacant", lambda *_: None)
    monkeypatch.setattr(Source, "allocate", None)
    with opened("sealed", tmp_path) as source:
        fit(source, "sealed", 8 * PAGE)
        POPULATE.run(context_of((0, 8 * PAGE), data=source), 0, 8 * PAGE, Recorder())
        assert hole_map(source) == [(0, 8 * PAGE)]
