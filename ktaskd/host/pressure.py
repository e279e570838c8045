"""Read what others on the machine wait for.

PSI counts tasks of SCHED_IDLE like any other, and a disk that our own helpers
keep busy, so that the files of the whole machine rise with our own work. Where
there are cgroups of others, their own files are asked (`host.others`). Elsewhere
CPU is worked out from the run queue, and io is the whole machine's.

Memory is always the whole machine's: that it runs short matters, whoever waits.

Source: Documentation/accounting/psi.rst
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ktaskd.host.cpustat import OwnWork, RunQueue
from ktaskd.host.others import GroupStall, OtherGroups, read_stall
from ktaskd.host.root import HostRoot
from ktaskd.model.observation import Pressure, Stall

DERIVED = "derived from /proc/stat, less our workers"
WHOLE_IO = "/proc/pressure/io, with our workers"

SELF = "self"


class PressureReader:
    """Reads pressure again and again; stall of CPU and io adds up from one reading to the next."""

    def __init__(self, root: HostRoot) -> None:
        """Nothing is read yet."""
        self._root = root
        self._groups = OtherGroups(root)
        self._cpu = _Sum(GroupStall("cpu"), DERIVED)
        self._io = _Sum(GroupStall("io"), WHOLE_IO)
        self._queue = RunQueue(root)
        self._whole_io: int | None = None

    def read(self, now_s: float, own: Collection[int] = ()) -> Pressure:
        """What the others suffer from now.

        Args:
            now_s: a clock that never goes back.
            own: processes of ours besides the one that reads: keepers, pool hosts and workers.
        """
        ours: list[int | str] = [SELF, *own]
        groups = self._groups.find(ours)
        queue_us = self._queue.read(now_s, OwnWork.read(self._root, ours))
        cpu, cpu_source = self._cpu.read(now_s, groups, queue_us)
        io, io_source = self._io.read(now_s, groups, self._read_whole_io())
        memory = read_stall(self._root.proc / "pressure/memory")
        return Pressure(cpu, cpu_source, io, memory, io_source)

    @property
    def group_files(self) -> frozenset[Path]:
        """cpu.pressure of the groups that the last reading read; empty where CPU is derived."""
        return self._cpu.groups.files

    def _read_whole_io(self) -> int | None:
        """Microseconds that anybody waited for io since the last reading; None without PSI."""
        stall = read_stall(self._root.proc / "pressure/io")
        before, self._whole_io = self._whole_io, stall.some_us if stall is not None else None
        if self._whole_io is None:
            return None
        return max(0, self._whole_io - before) if before is not None else 0


class _Sum:
    """One total of what groups of others say, or where they say nothing of what stands in for it."""

    def __init__(self, groups: GroupStall, instead: str) -> None:
        self.groups = groups
        self._instead = instead
        self._total_us = 0

    def read(
        self, now_s: float, groups: Collection[Path], instead_us: int | None
    ) -> tuple[Stall | None, str]:
        """The total and where its newest part came from."""
        waited_us = self.groups.read(now_s, groups)
        source = self.groups.source if waited_us is not None else self._instead
        waited_us = waited_us if waited_us is not None else instead_us
        if waited_us is None:
            return None, ""
        self._total_us += waited_us
        return Stall(self._total_us), source
