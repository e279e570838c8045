"""How much of each CPU our workers and other programs use, from /proc/stat and the CPU clocks of ours.

A worker that is bound to one CPU used that one. Another one is counted at the CPU that it ran on last,
as the kernel reports it: a guess that is right for most of a second.

Source: proc_stat(5), proc_pid_stat(5)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ktaskd.host.pressure.cpustat import LONGEST_S, parse_stat
from ktaskd.host.root import HostRoot, read_kernel_text

SHORTEST_S = 0.2
"""Readings that are closer together give the same result: the kernel counts in steps of 10 ms."""

_PROCESSOR = 36
"""Column after the command's name."""


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """One of our workers, and the CPUs that it is bound to."""

    pid: int
    is_lead: bool
    cpus: Collection[int]


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Fractions of the time that our helpers, our leads and all others used one CPU."""

    cpu: int
    helpers: float
    leads: float
    others: float


class CpuUseReader:
    """Compares each reading with the one before. Reads nothing unless it is called."""

    def __init__(self, root: HostRoot, used_s: Callable[[int], float]) -> None:
        """Read nothing yet; `used_s` returns the CPU seconds of a process."""
        self._root = root
        self._used_s = used_s
        self._read_s = float("-inf")
        self._idle: Mapping[str, float] = {}
        self._used: dict[int, float] = {}
        self._last: tuple[CpuUse, ...] = ()

    def read(self, now_s: float, own: Callable[[], Sequence[OwnProcess]]) -> tuple[CpuUse, ...]:
        """Return the use since the reading before, by CPU; empty if that is too long ago.

        Args:
            own: our workers; called only if there is something to read.
        """
        passed_s = now_s - self._read_s
        if passed_s < SHORTEST_S:
            return self._last
        stat = parse_stat(read_kernel_text(self._root.proc / "stat") or "")
        idle = stat.idle_s if stat is not None else {}
        processes = own()
        used = {one.pid: self._used_s(one.pid) for one in processes}
        recent = passed_s <= LONGEST_S
        self._last = self._compare(idle, used, processes, passed_s) if recent else ()
        self._read_s, self._idle, self._used = now_s, idle, used
        return self._last

    def _compare(
        self,
        idle: Mapping[str, float],
        used: Mapping[int, float],
        processes: Sequence[OwnProcess],
        passed_s: float,
    ) -> tuple[CpuUse, ...]:
        ours: dict[bool, dict[int, float]] = {True: {}, False: {}}
        for one in processes:
            spent_s = used[one.pid] - self._used.get(one.pid, used[one.pid])
            if spent_s > 0 and (cpu := self._cpu_of(one)) is not None:
                of_kind = ours[one.is_lead]
                of_kind[cpu] = of_kind.get(cpu, 0.0) + spent_s / passed_s
        return tuple(
            use_of(
                int(name[3:]),
                1 - (idle_s - self._idle[name]) / passed_s,
                *(ours[kind].get(int(name[3:]), 0.0) for kind in (False, True)),
            )
            for name, idle_s in idle.items()
            if name in self._idle
        )

    def _cpu_of(self, process: OwnProcess) -> int | None:
        if len(process.cpus) == 1:
            return next(iter(process.cpus))
        text = self._root.process_text(process.pid, "stat") or ""
        words = text.rpartition(")")[2].split()
        return int(words[_PROCESSOR]) if len(words) > _PROCESSOR and words[_PROCESSOR].isdecimal() else None


def use_of(cpu: int, busy: float, helpers: float, leads: float) -> CpuUse:
    """Split the busy fraction of a CPU. Our clocks are exact, so together the parts never exceed 1. Pure."""
    helpers, leads = min(max(helpers, 0.0), 1.0), min(max(leads, 0.0), 1.0)
    leads = min(leads, 1.0 - helpers)
    return CpuUse(cpu, helpers, leads, max(min(busy, 1.0) - helpers - leads, 0.0))
