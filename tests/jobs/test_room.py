"""A job that would allocate more memory than there is is refused, with what there is."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.host.memory.freemem import read_free, read_free_huge
from ktaskd.host.root import HostRoot
from ktaskd.jobs.room import RESERVE_PARTS, MemoryRoom, Need, needs_of
from ktaskd.model.checked import CheckedJob
from ktaskd.model.errors import MemoryShort
from ktaskd.model.function import Access
from ktaskd.model.job import JobSpec, RangeSpec
from ktaskd.model.source import SourceFacts, SourceKind
from tests.jobs.realjobs import Memory, real_jobs, run

GIB = 1 << 30
MIB = 1 << 20
PAGE = mmap.PAGESIZE


def machine(top: Path, *, available: int, total: int = 0) -> HostRoot:
    (top / "proc").mkdir(exist_ok=True)
    text = f"MemTotal: {(total or 32 * available) >> 10} kB\nMemAvailable: {available >> 10} kB\n"
    (top / "proc" / "meminfo").write_text(text)
    return HostRoot(top)


def fill(memory: Memory, *ranges: tuple[int, int]) -> JobSpec:
    pieces = tuple(RangeSpec(start, length, -1) for start, length in ranges)
    return JobSpec("mem.fill", arg={"value": 1}, sources={"data": memory.ref}, ranges=pieces)


def test_fill_when_larger_than_what_is_available_then_refused_with_both_numbers(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_jobs() as home:
            home.intake.conditions.room = MemoryRoom(machine(tmp_path, available=2 * GIB, total=GIB))
            large, small = home.memory(100 * GIB), home.memory(4 * MIB)
            with pytest.raises(MemoryShort) as caught:
                await home.submit(fill(large))
            error = caught.value
            there = 2 * GIB - GIB // RESERVE_PARTS
            assert f"would allocate {100 * GIB} bytes, and there are {there} bytes of memory" in error.message
            assert "use smaller ranges or a file on a disk" in error.message
            assert (error.field, error.metadata["available"]) == ('spec.sources["data"]', str(there))
            assert os.fstat(large.fd).st_blocks == 0
            assert (await home.run(fill(small))).state.value == "succeeded"
            assert (await home.run(fill(large, (50 * GIB, MIB)))).state.value == "succeeded"

    run(story())


def test_jobs_when_several_at_once_then_what_they_still_may_allocate_counts(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_jobs() as home:
            full = home.dispatch.allowance
            home.dispatch.set_allowance(replace(full, helpers=dict.fromkeys(full.helpers, 0)))
            home.intake.conditions.room = MemoryRoom(machine(tmp_path, available=64 * MIB, total=64 * MIB))
            first, second = home.memory(40 * MIB), home.memory(40 * MIB)
            waiting = await home.submit(fill(first), waited=False)
            with pytest.raises(MemoryShort, match=f"of which {40 * MIB} are promised to other jobs"):
                await home.submit(fill(second), waited=False)
            again = await home.submit(fill(first), waited=False)  # it is the same memory
            home.engine.cancel(waiting)
            home.engine.cancel(again)
            await home.ended(waiting, again)
            home.engine.cancel(await home.submit(fill(second), waited=False))

    run(story())


def held(fd: int, kind: SourceKind = SourceKind.MEMORY) -> HeldSource:
    status = os.fstat(fd)
    facts = SourceFacts(
        *(
            kind,
            Access.READ_WRITE,
            False,
            0,
            status.st_size,
            PAGE,
            status.st_dev,
            status.st_ino,
            "tmpfs",
            True,
        )
    )
    return HeldSource(os.dup(fd), facts, 0)


def checked(name: str, ranges: list[tuple[int, int]]) -> CheckedJob:
    pieces = tuple(RangeSpec(start, end - start) for start, end in ranges)
    return CheckedJob(CATALOGUE[name], {}, pieces, whole=False, anywhere=True, undo=False)


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 8)), max_size=4), st.integers(0, 64 * PAGE - 1))
def test_need_when_counted_then_never_more_than_the_kernel_allocates(
    present: list[tuple[int, int]], start: int
) -> None:
    size = 72 * PAGE
    fd = os.memfd_create("t")
    try:
        os.truncate(fd, size)
        for page, count in present:
            os.pwrite(fd, b"x" * (count * PAGE), page * PAGE)
        end = min(size, start + 5 * PAGE + 17)
        source = held(fd)
        before = os.fstat(fd).st_blocks
        needs = needs_of(checked("mem.fill", [(start, end)]), {"data": source})
        os.pwrite(fd, b"y" * (end - start), start)
        grown = (os.fstat(fd).st_blocks - before) * 512
        assert sum(need.nbytes for need in needs) <= grown
        if not before:
            assert sum(need.nbytes for need in needs) == grown
        source.release()
    finally:
        os.close(fd)


def test_need_when_copied_then_at_most_what_the_source_has() -> None:
    src, dst = os.memfd_create("src"), os.memfd_create("dst")
    os.truncate(src, GIB)
    os.pwrite(src, b"x" * MIB, 5 * MIB)
    sources = {"src": held(src), "dst": held(dst)}
    (need,) = needs_of(checked("mem.copy", [(0, GIB)]), sources)
    assert (need.role, need.nbytes) == ("dst", MIB)
    on_disk = {"src": sources["src"], "dst": held(dst, SourceKind.FILE)}
    assert not needs_of(checked("file.copy", [(0, GIB)]), on_disk)
    assert not needs_of(checked("file.crc32", [(0, GIB)]), {"data": sources["src"]})
    for source in (*sources.values(), on_disk["dst"]):
        source.release()
    os.close(src)
    os.close(dst)


def test_huge_pages_when_too_few_are_free_then_refused(tmp_path: Path) -> None:
    pool = tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB"
    pool.mkdir(parents=True)
    for name, number in (("free_hugepages", 3), ("nr_overcommit_hugepages", 2), ("surplus_hugepages", 1)):
        (pool / name).write_text(f"{number}\n")
    root = HostRoot(tmp_path)
    assert read_free_huge(root, 2 * MIB) == 8 * MIB
    room = MemoryRoom(root)
    room.check([Need("data", (1, 1), SourceKind.HUGE, 2 * MIB, 8 * MIB)])
    with pytest.raises(MemoryShort, match=r"8388608 bytes of huge pages of 2097152 bytes"):
        room.check([Need("data", (1, 1), SourceKind.HUGE, 2 * MIB, 10 * MIB)])


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemAvailable:\nMemTotal: x kB\n"])
def test_free_memory_when_the_machine_does_not_say_then_not_known_and_nothing_refused(
    tmp_path: Path, text: str
) -> None:
    root = HostRoot(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(text)
    assert read_free(root) is None
    MemoryRoom(root).check([Need("data", (1, 1), SourceKind.MEMORY, PAGE, 1 << 60)])
