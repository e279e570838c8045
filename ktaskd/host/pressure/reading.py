"""Read how long others on the machine waited.

PSI counts SCHED_IDLE tasks like any other, and waits for a disk that our own helpers keep busy, so
the files of the whole machine rise with our own work. If others have cgroups of their own, the files
of those are read (`pressure.others`). If not, CPU pressure is derived from the run queue, and I/O
pressure is that of the whole machine.

Memory pressure is always that of the whole machine, since a shortage matters whichever task waits.

Without PSI all three are derived, roughly (`pressure.cpustat`, `pressure.derived`).

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
"""A PSI total rises no faster than time, plus this much since the clocks are not read at the same moment.
A total that rises faster is no real reading."""

SELF = "self"


class PressureReader:
    """Reads pressure repeatedly; stall of CPU and I/O adds up from one reading to the next."""

    def __init__(self, root: HostRoot) -> None:
        """Read nothing yet."""
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
        """Read how long others have waited.

        Args:
            now_s: time by a clock that never goes back.
            own: our processes besides the calling one: keepers, pool hosts and workers.
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
        """cpu.pressure of the groups that the last reading read; empty if CPU pressure is derived."""
        return self._cpu.groups.files

    def _read_io(self, now_s: float, ours: Collection[int | str]) -> tuple[int | None, str]:
        """Microseconds in which tasks waited for I/O since the last reading, and the source."""
        waited = self._whole_io.read(now_s)
        if waited is not None:
            return waited.some_us, WHOLE_IO
        return self._disks.read(now_s, ours, self._queue.blocked_others), DERIVED_IO

    def _read_memory(self, now_s: float) -> tuple[Stall | None, str]:
        """The total time in which tasks waited for memory, and the source."""
        if self._whole_memory.read(now_s) is not None:
            return self._whole_memory.total, WHOLE_MEMORY
        stall = self._pages.read(now_s)
        return stall, DERIVED_MEMORY if stall is not None else ""


class _Whole:
    """One PSI file of the whole machine.

    Attributes:
        total: its first reading, plus every rise since.
    """

    def __init__(self, path: Path) -> None:
        self.total: Stall | None = None
        self._path = path
        self._last: tuple[float, Stall] | None = None

    def read(self, now_s: float) -> Stall | None:
        """How much it rose since the last reading; None without PSI."""
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
    """How much both totals rose; 0 for one that fell, or rose faster than time."""

    def one(then_us: int | None, now_us: int | None) -> int:
        moved_us = (now_us or 0) - (then_us or 0)
        return moved_us if 0 <= moved_us <= most_us else 0

    return Stall(one(before.some_us, now.some_us), one(before.full_us, now.full_us))


class _Sum:
    """The total of one resource, from the groups of others or from a substitute if they report nothing."""

    def __init__(self, groups: GroupStall) -> None:
        self.groups = groups
        self._total_us = 0

    def read(
        self, now_s: float, groups: Collection[Path], instead: tuple[int | None, str]
    ) -> tuple[Stall | None, str]:
        """The total, and the source of its newest part.

        Args:
            instead: substitute: microseconds since the last reading (None = no signal), and the source.
        """
        waited_us, source = self.groups.read(now_s, groups), self.groups.source
        if waited_us is None:
            waited_us, source = instead
        if waited_us is None:
            return None, ""
        self._total_us += waited_us
        return Stall(self._total_us), source
