"""I/O and memory pressure on a kernel without PSI."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.pressure.derived import (
    DERIVED_IO,
    DERIVED_MEMORY,
    RECLAIM_US,
    RESTORE_US,
    parse_disks,
    parse_vmstat,
)
from ktaskd.host.pressure.reading import PressureReader
from ktaskd.host.root import HostRoot
from ktaskd.model.observation import Stall
from tests.support.hosts import FakeHost

STAT = "cpu0 100 0 100 50000 0\nprocs_running 1\nprocs_blocked {}"


@pytest.fixture
def old(tmp_path: Path) -> FakeHost:
    """A machine without PSI."""
    return FakeHost.copy("no-psi", tmp_path / "host")


def disk(
    old: FakeHost, busy_ms: int, *, sectors: int = 500_000, queued_ms: int = 10**6, name: str = "sda"
) -> None:
    lines = [f"8 0 {name} 1 0 {sectors} 0 1 0 0 0 0 {busy_ms} {queued_ms} 0 0 0 0"]
    lines += ["8 1 sda1 1 0 0 0 1 0 0 0 0 99999999 99999999", "7 0 loop0 1 0 0 0 1 0 0 0 0 99999999 99999999"]
    old.write("/proc/diskstats", "\n".join(lines))


def blocked(old: FakeHost, count: int) -> None:
    old.write("/proc/stat", STAT.format(count))


def io_us(reader: PressureReader, now_s: float, own: tuple[int, ...] = ()) -> int:
    read = reader.read(now_s, own)
    assert read.io is not None
    assert read.io_source == DERIVED_IO
    return read.io.some_us


def moved(old: FakeHost, read: int, written: int, state: str = "S") -> None:
    """Bytes that our worker 77 has moved so far."""
    old.write(
        "/proc/77/io", f"rchar: 5\nread_bytes: {read}\nwrite_bytes: {written}\ncancelled_write_bytes: 0"
    )
    old.write("/proc/77/stat", f"77 (worker) {state} 1 1 1 0 -1 0 0 0 0 0 5 5 0 0")


def test_io_when_others_are_blocked_then_as_long_as_the_busiest_disk_was_busy(old: FakeHost) -> None:
    reader = PressureReader(old.root)
    disk(old, 1000)
    blocked(old, 2)
    assert io_us(reader, 100.0) == 0
    disk(old, 1900, queued_ms=10**6 + 5000)
    assert io_us(reader, 102.0) == 900_000
    blocked(old, 0)  # as with write-behind, for which no task waits
    disk(old, 2900, queued_ms=10**6 + 9000)
    assert io_us(reader, 104.0) == 900_000


def test_io_when_it_cannot_be_then_no_more_than_the_time_and_never_less(old: FakeHost) -> None:
    reader = PressureReader(old.root)
    blocked(old, 1)
    disk(old, 1000)
    io_us(reader, 100.0)
    disk(old, 900_000, queued_ms=10**9)
    assert io_us(reader, 102.0) == 2_000_000
    disk(old, 5)
    assert io_us(reader, 104.0) == 2_000_000
    disk(old, 500, queued_ms=10**6, name="nvme0n1")  # a new disk
    assert io_us(reader, 106.0) == 2_000_000


@pytest.mark.parametrize(("ours", "waited"), [(0, 1_000_000), (256_000, 500_000), (10**9, 0)])
def test_io_when_our_workers_moved_a_part_of_the_bytes_then_that_part_is_ours(
    old: FakeHost, ours: int, waited: int
) -> None:
    reader = PressureReader(old.root)
    blocked(old, 1)
    disk(old, 0, sectors=0, queued_ms=0)
    moved(old, 1000, 1000)
    io_us(reader, 100.0, (77,))
    disk(old, 1000, sectors=1000, queued_ms=9000)
    moved(old, 1000 + ours // 2, 1000 + ours // 2)
    assert io_us(reader, 102.0, (77,)) == waited


def test_io_when_only_our_worker_is_blocked_then_nobody_waits(old: FakeHost) -> None:
    reader = PressureReader(old.root)
    blocked(old, 1)
    moved(old, 0, 0, "D")
    disk(old, 0, queued_ms=0)
    io_us(reader, 100.0, (77,))
    disk(old, 1500, queued_ms=5000)
    assert io_us(reader, 102.0, (77,)) == 0


def test_memory_when_pages_come_back_and_tasks_reclaim_then_it_adds_up(old: FakeHost) -> None:
    reader = PressureReader(old.root)

    def read(text: str, now_s: float) -> Stall | None:
        old.write("/proc/vmstat", text)
        found = reader.read(now_s)
        assert found.memory_source == (DERIVED_MEMORY if found.memory else "")
        return found.memory

    first = "workingset_restore_anon 5\nworkingset_restore_file 95\nallocstall_normal 3\nallocstall_movable 4"
    assert read(first, 100.0) == Stall(0)
    assert read(first.replace("95", "195").replace("l 3", "l 13"), 102.0) == Stall(
        100 * RESTORE_US + 10 * RECLAIM_US
    )
    assert read(first, 104.0) == Stall(30_000)  # real counters do not fall
    assert read(first.replace("95", "9999999"), 106.0) == Stall(30_000 + 2_000_000)
    assert read("nr_free_pages 5", 108.0) is None


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("workingset_restore_anon 1\nworkingset_restore_file 2\nworkingset_refault_file 50\npswpin 9", 3),
        ("workingset_restore 7\nworkingset_refault 50", 7),
        ("workingset_refault_anon 4\nworkingset_refault_file 1", 5),
        ("workingset_refault 50\npswpin 9", 50),
        ("pswpin 9\npgmajfault 5", 9),
    ],
)
def test_vmstat_when_of_any_kernel_then_the_counter_that_is_nearest_to_psi(text: str, pages: int) -> None:
    assert parse_vmstat(text) == pages * RESTORE_US


@pytest.mark.parametrize("name", ["sda", "hdb", "vda", "xvdb", "nvme0n1", "mmcblk0", "dasda", "pmem0"])
def test_disks_when_whole_then_counted(name: str) -> None:
    (found,) = parse_disks(f" 8 0 {name} 1 2 3 4 5 6 7 8 9 10 11").values()
    assert (found.moved_bytes, found.busy_us, found.queued_us) == ((3 + 7) * 512, 10_000, 11_000)


@pytest.mark.parametrize(
    "name", ["sda1", "nvme0n1p2", "mmcblk0p1", "loop0", "dm-0", "md0", "zram0", "ram1", "sr0"]
)
def test_disks_when_a_part_or_stacked_then_left_out(name: str) -> None:
    assert parse_disks(f" 8 0 {name} 1 2 3 4 5 6 7 8 9 10 11") == {}


@given(st.text() | st.text(alphabet="sda pswpin 0123456789\n"))
def test_counters_when_any_text_then_an_answer(text: str) -> None:
    assert all(one.busy_us >= 0 for one in parse_disks(text).values())
    assert (parse_vmstat(text) or 0) >= 0


def test_real_machine_when_read_then_its_own_counters_are_understood() -> None:
    assert parse_vmstat((HostRoot().proc / "vmstat").read_text()) is not None
    parse_disks((HostRoot().proc / "diskstats").read_text())
