"""I/O and memory pressure on kernels without PSI, derived from counters that every kernel has.

Both are rough, and rather too high than too low:

* **I/O**: if a task of others is blocked in I/O at the moment of a reading, others waited for as
  long as the busiest disk was busy, less the fraction of the bytes that our workers moved. Writes
  that no task waits for count while one task is blocked for another reason. Network file systems
  are not disks and do not count.
* **Memory**: a page that was in use, was pushed out and had to be read again costs RESTORE_US;
  a task that had to free memory itself costs RECLAIM_US. How long each of them really waited
  depends on the disk, and several may have waited at the same time. Whether all tasks waited is
  not known.

Source: Documentation/admin-guide/iostats.rst, proc_stat(5), proc_pid_io(5),
mm/workingset.c (PSI itself counts the pages that vmstat calls restored)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.model.observation import Stall

DERIVED_IO = "derived from /proc/diskstats, less our workers"
DERIVED_MEMORY = "derived from /proc/vmstat, with our workers"

RESTORE_US = 200
"""One read of a flash disk with a queue [our estimate]; a rotating disk takes 40 times as long."""

RECLAIM_US = 1000
"""One pass of direct reclaim over 32 pages or more [our estimate]."""

_SECTOR = 512

_WHOLE_DISK = re.compile(r"(sd|hd|vd|xvd|dasd)[a-z]+|nvme\d+n\d+|mmcblk\d+|pmem\d+")
"""Names of real disks: devices stacked on them (dm, md, loop, zram) would count them twice."""

_READ_SECTORS, _WRITTEN_SECTORS, _BUSY_MS, _QUEUED_MS = 2, 6, 9, 10
"""Columns after the disk's name."""

_RESTORED = (
    ("workingset_restore_anon", "workingset_restore_file"),  # since Linux 5.9
    ("workingset_restore",),
    ("workingset_refault_anon", "workingset_refault_file"),
    ("workingset_refault",),
    ("pswpin",),
)
"""Names of the counters in different kernels; the first that exists is used."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The counters of one disk since boot."""

    moved_bytes: int
    busy_us: int
    queued_us: int


def parse_disks(text: str) -> dict[str, Disk]:
    """Parse whole disks by name; other lines are left out."""
    disks: dict[str, Disk] = {}
    for line in text.split("\n"):
        words = line.split()[2 : _QUEUED_MS + 4]
        name, numbers = "".join(words[:1]), [_number(word) for word in words[1:]]
        if _WHOLE_DISK.fullmatch(name) and len(numbers) > _QUEUED_MS and None not in numbers:
            count = [number or 0 for number in numbers]
            moved = (count[_READ_SECTORS] + count[_WRITTEN_SECTORS]) * _SECTOR
            disks[name] = Disk(moved, count[_BUSY_MS] * 1000, count[_QUEUED_MS] * 1000)
    return disks


class DiskWait:
    """Adds up how long others waited for disks, from one reading to the next."""

    def __init__(self, root: HostRoot) -> None:
        """Read nothing yet."""
        self._root = root
        self._last: tuple[float, dict[str, Disk], Mapping[int | str, int]] | None = None

    def read(self, now_s: float, own: Collection[int | str], blocked: int) -> int | None:
        """Microseconds that others waited since the last reading; None without a disk.

        Args:
            own: our processes.
            blocked: tasks of others that are blocked in I/O now.
        """
        disks = parse_disks(read_kernel_text(self._root.proc / "diskstats") or "")
        if not disks:
            self._last = None
            return None
        moved = {pid: number for pid in own if (number := _moved_by(self._root, pid)) is not None}
        last, self._last = self._last, (now_s, disks, moved)
        if last is None or blocked <= 0:
            return 0
        passed_us = max(0, int((now_s - last[0]) * 1_000_000))
        ours = sum(max(0, number - last[2].get(pid, number)) for pid, number in moved.items())
        return int(min(_busiest_us(last[1], disks), passed_us) * _fraction_of_others(last[1], disks, ours))


def _busiest_us(before: Mapping[str, Disk], now: Mapping[str, Disk]) -> int:
    """Time in which the busiest disk had requests, at most the time that they were in its queue."""
    return max(
        min(max(0, disk.busy_us - then.busy_us), max(0, disk.queued_us - then.queued_us))
        for name, disk in now.items()
        for then in (before.get(name, disk),)
    )


def _fraction_of_others(before: Mapping[str, Disk], now: Mapping[str, Disk], ours: int) -> float:
    """Fraction of the bytes that others moved, 0 to 1; 1 if none were moved."""
    moved = sum(
        max(0, disk.moved_bytes - before[name].moved_bytes) for name, disk in now.items() if name in before
    )
    return 1.0 - min(ours / moved, 1.0) if moved else 1.0


def _moved_by(root: HostRoot, pid: int | str) -> int | None:
    """Bytes that a process has read from disks or written to them; None if we may not read that."""
    found = _counters(root.process_text(pid, "io") or "", ":")
    if "read_bytes" not in found:
        return None
    return found["read_bytes"] + found.get("write_bytes", 0)


class MemoryWait:
    """Adds up how long tasks waited for memory, from one reading to the next."""

    def __init__(self, root: HostRoot) -> None:
        """Read nothing yet."""
        self._root = root
        self._last: tuple[float, int] | None = None
        self._total_us = 0

    def read(self, now_s: float) -> Stall | None:
        """The total since the first reading, at most all of that time; None without /proc/vmstat."""
        cost_us = parse_vmstat(read_kernel_text(self._root.proc / "vmstat") or "")
        if cost_us is None:
            self._last = None
            return None
        last, self._last = self._last, (now_s, cost_us)
        if last is not None:
            passed_us = max(0, int((now_s - last[0]) * 1_000_000))
            self._total_us += min(max(0, cost_us - last[1]), passed_us)
        return Stall(self._total_us)


def parse_vmstat(text: str) -> int | None:
    """Cost of all pages that were read again and of all direct reclaim since boot, in microseconds."""
    found = _counters(text, "")
    names = next((names for names in _RESTORED if names[0] in found), None)
    if names is None:
        return None
    restored = sum(found.get(name, 0) for name in names)
    reclaims = sum(count for name, count in found.items() if name.startswith("allocstall"))
    return restored * RESTORE_US + reclaims * RECLAIM_US


def _counters(text: str, after: str) -> dict[str, int]:
    """Parse lines of a name and a number; `after` ends the name."""
    found: dict[str, int] = {}
    for line in text.split("\n"):
        words = line.split()
        if len(words) == 2 and words[0].endswith(after) and (number := _number(words[1])) is not None:
            found[words[0].removesuffix(after)] = number
    return found


def _number(word: str) -> int | None:
    """Parse a count; None if it is not one."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else None
