"""Read what others on the machine wait for.

PSI counts tasks of SCHED_IDLE like any other, and a disk that our own helpers
keep busy, so that the files of the whole machine rise with our own work. Where
there are cgroups of others, their own files are asked (`host.others`). Elsewhere
CPU is worked out from the run queue, and io is the whole machine's.

Memory is always the whole machine's: that it runs short matters, whoever waits.

Without PSI all three are derived (`host.cpustat`, `host.derived`), roughly.

Source: Documentation/accounting/psi.rst
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ktaskd.host.pressure.cpustat import OwnWork, RunQueue
from ktaskd.host.pressure.derived import DERIVED_IO, DERIVED_MEMORY, DiskWait, MemoryWait
from ktaskd.host.pressure.others import GroupStall, OtherGroups, read_stall
from ktaskd.host.root import HostRoot
from ktaskd.model.observation import Pressure, Stall

DERIVED = "derived from /proc/stat, less our workers"
WHOLE_IO = "/proc/pressure/io, with our workers"
WHOLE_MEMORY = "/proc/pressure/memory, with our workers"

SLACK_US = 1_000_000
"""A total of PSI rises no faster than time, and this much besides since both clocks are read apart.
What rises faster is no reading of it."""

SELF = "self"


class PressureReader:
    """Reads pressure again and again; stall of CPU and io adds up from one reading to the next."""

    def __init__(self, root: HostRoot) -> None:
        """Nothing is read yet."""
        self._root = root
        self._groups = OtherGroups(root)
        self._cpu = _Sum(GroupStall("cpu"))
        self._io = _Sum(GroupStall("io"))
        self._queue = RunQueue(root)
        self._whole_io = _Whole(root.proc / "pressure/io")
        self._whole_memory = _Whole(root.proc / "pressure/memory")
        self._disks = DiskWait(root)
        self._pages = MemoryWait(root)

    def read(self, now_s: float, own: Collection[int] = ()) -> Pressure:
        """What the others suffer from now.

        Args:
            now_s: a clock that never goes back.
            own: processes of ours besides the one that reads: keepers, pool hosts and workers.
        """
        ours: list[int | str] = [SELF, *own]
        groups = self._groups.find(ours)
        queue_us = self._queue.read(now_s, OwnWork.read(self._root, ours))
        cpu, cpu_source = self._cpu.read(now_s, groups, (queue_us, DERIVED))
        io, io_source = self._io.read(now_s, groups, self._read_io(now_s, ours))
        memory, memory_source = self._read_memory(now_s)
        return Pressure(cpu, cpu_source, io, memory, io_source, memory_source)

    @property
    def group_files(self) -> frozenset[Path]:
        """cpu.pressure of the groups that the last reading read; empty where CPU is derived."""
        return self._cpu.groups.files

    def _read_io(self, now_s: float, ours: Collection[int | str]) -> tuple[int | None, str]:
        """Microseconds that anybody waited for I/O since the last reading, and where that is from."""
        waited = self._whole_io.read(now_s)
        if waited is not None:
            return waited.some_us, WHOLE_IO
        return self._disks.read(now_s, ours, self._queue.blocked_others), DERIVED_IO

    def _read_memory(self, now_s: float) -> tuple[Stall | None, str]:
        """The total of time that somebody waited for memory, and where that is from."""
        if self._whole_memory.read(now_s) is not None:
            return self._whole_memory.total, WHOLE_MEMORY
        stall = self._pages.read(now_s)
        return stall, DERIVED_MEMORY if stall is not None else ""


class _Whole:
    """One file of PSI of the whole machine.

    Attributes:
        total: what it showed first, and what it rose by since.
    """

    def __init__(self, path: Path) -> None:
        self.total: Stall | None = None
        self._path = path
        self._last: tuple[float, Stall] | None = None

    def read(self, now_s: float) -> Stall | None:
        """What it rose by since the last reading; None without PSI."""
        stall = read_stall(self._path)
        last, self._last = self._last, (now_s, stall) if stall is not None else None
        if stall is None:
            self.total = None
            return None
        if last is None or self.total is None:
            self.total = stall
            return Stall(0, 0)
        rise = _rise(last[1], stall, int(2 * (now_s - last[0]) * 1_000_000) + SLACK_US)
        full_us = None if stall.full_us is None else (self.total.full_us or 0) + (rise.full_us or 0)
        self.total = Stall(self.total.some_us + rise.some_us, full_us)
        return rise


def _rise(before: Stall, now: Stall, most_us: int) -> Stall:
    """By how much both totals rose; 0 where one fell, or rose faster than time."""

    def one(then_us: int | None, now_us: int | None) -> int:
        moved_us = (now_us or 0) - (then_us or 0)
        return moved_us if 0 <= moved_us <= most_us else 0

    return Stall(one(before.some_us, now.some_us), one(before.full_us, now.full_us))


class _Sum:
    """One total of what groups of others say, or where they say nothing of what stands in for it."""

    def __init__(self, groups: GroupStall) -> None:
        self.groups = groups
        self._total_us = 0

    def read(
        self, now_s: float, groups: Collection[Path], instead: tuple[int | None, str]
    ) -> tuple[Stall | None, str]:
        """The total and where its newest part came from.

        Args:
            instead: microseconds since the last reading, None = no signal, and their source.
        """
        waited_us, source = self.groups.read(now_s, groups), self.groups.source
        if waited_us is None:
            waited_us, source = instead
        if waited_us is None:
            return None, ""
        self._total_us += waited_us
        return Stall(self._total_us), source
