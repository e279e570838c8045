"""How long others waited for a CPU, derived from /proc/stat if no cgroup reports it.

While c CPUs have f runnable tasks of others, and our processes use o CPUs, f + o - c tasks of
others are without a CPU: they are queued, or ours run in their place. If that is less than one,
somebody waited for that fraction of the time. f is sampled at each reading, o is the mean since the
last one. While any CPU is idle nobody waits, so a coincidental sample counts for nothing on a
machine that is not full. Others also cannot have waited longer than they ran: ours give way to them
at once, so a task that hardly ran did not need more. Without that rule a timer that happened to run
at the moment of the sample would count as two seconds of waiting.

Source: proc_stat(5), proc_pid_stat(5)
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ktaskd.host.root import HostRoot, read_kernel_text

LONGEST_S = 10.0
"""A longer time between two readings is ignored, since one sample says nothing about it."""

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")

_IDLE, _IOWAIT = 3, 4
"""Columns after the CPU's name; both count as idle time."""

_STATE, _UTIME, _STIME = 0, 11, 12
"""Columns after the command's name."""


@dataclass(frozen=True, slots=True)
class OwnWork:
    """The state of our own processes.

    Args:
        runnable: how many of them run or wait for a CPU.
        used_s: CPU seconds that each has used.
        blocked: how many of them wait for a disk.
    """

    runnable: int = 0
    used_s: Mapping[int | str, float] = field(default_factory=dict)
    blocked: int = 0

    @classmethod
    def read(cls, root: HostRoot, pids: Collection[int | str]) -> OwnWork:
        """Read their state now; "self" is the calling process. Only main threads are counted."""
        runnable, blocked, used = 0, 0, {}
        for pid in pids:
            # The name before it may contain anything, including parentheses.
            text = (root.process_text(pid, "stat") or "").rpartition(")")[2]
            words = text.split()
            ticks = [_number(word) for word in words[_UTIME : _STIME + 1]]
            if len(ticks) == 2 and None not in ticks:
                runnable += words[_STATE] == "R"
                blocked += words[_STATE] == "D"
                used[pid] = sum(filter(None, ticks)) * _TICK_S
        return cls(runnable, used, blocked)

    def cpus_since(self, before: OwnWork, passed_s: float) -> float:
        """CPUs that ours used on average since `before`; a new process counts from now on."""
        used = sum(max(0.0, now - before.used_s.get(pid, now)) for pid, now in self.used_s.items())
        return used / passed_s


@dataclass(frozen=True, slots=True)
class CpuStat:
    """/proc/stat at one moment.

    Args:
        running: tasks that run or wait for a CPU, including ours.
        idle_s: idle seconds of each CPU since boot.
        blocked: tasks that are blocked in I/O, including ours; None if not reported.
    """

    running: int
    idle_s: Mapping[str, float]
    blocked: int | None = None

    @property
    def cpus(self) -> int:
        """How many CPUs are online."""
        return len(self.idle_s)


def parse_stat(text: str) -> CpuStat | None:
    """Parse the values that are used here; None if one is missing."""
    running: int | None = None
    blocked: int | None = None
    idle: dict[str, float] = {}
    for line in text.split("\n"):
        name, *words = line.split()[: _IOWAIT + 2] or [""]
        numbers = [_number(word) for word in words]
        if name == "procs_running" and numbers:
            running = numbers[0]
        elif name == "procs_blocked" and numbers:
            blocked = numbers[0]
        elif name.startswith("cpu") and name != "cpu" and len(numbers) > _IOWAIT and None not in numbers:
            idle[name] = sum(filter(None, numbers[_IDLE : _IOWAIT + 1])) * _TICK_S
    return CpuStat(running, idle, blocked) if running is not None and idle else None


class RunQueue:
    """Reads the run queue repeatedly."""

    def __init__(self, root: HostRoot) -> None:
        """Read nothing yet."""
        self._root = root
        self._last: tuple[float, CpuStat, OwnWork] | None = None

    @property
    def blocked_others(self) -> int:
        """Tasks of others that were blocked in I/O at the last reading; 1 if not reported."""
        if self._last is None or self._last[1].blocked is None:
            return 1
        return max(0, self._last[1].blocked - self._last[2].blocked)

    def read(self, now_s: float, own: OwnWork) -> int | None:
        """Microseconds that others waited since the last reading; None without /proc/stat."""
        stat = parse_stat(read_kernel_text(self._root.proc / "stat") or "")
        last, self._last = self._last, (now_s, stat, own) if stat is not None else None
        if stat is None:
            return None
        if last is None:
            return 0
        passed_s = now_s - last[0]
        if not 0.0 < passed_s <= LONGEST_S:
            return 0
        full_s = time_full(last[1], stat, passed_s)
        own_cpus = own.cpus_since(last[2], passed_s)
        fraction = fraction_waiting(stat.running - own.runnable, own_cpus, stat.cpus)
        return int(
            full_s * min(fraction, max(cpus_busy(last[1], stat, passed_s) - own_cpus, 0.0)) * 1_000_000
        )


def time_full(before: CpuStat, now: CpuStat, passed_s: float) -> float:
    """Seconds in which no CPU may have been idle: all, less those of the CPU that was idle longest."""
    idlest = max((now.idle_s[cpu] - before.idle_s.get(cpu, 0.0) for cpu in now.idle_s), default=0.0)
    return min(max(passed_s - idlest, 0.0), passed_s)


def cpus_busy(before: CpuStat, now: CpuStat, passed_s: float) -> float:
    """CPUs that were busy on average; a CPU that was offline before counts as idle."""
    idle = (now.idle_s[cpu] - before.idle_s.get(cpu, now.idle_s[cpu] - passed_s) for cpu in now.idle_s)
    return sum(min(max(1.0 - spent_s / passed_s, 0.0), 1.0) for spent_s in idle)


def fraction_waiting(others: int, own_cpus: float, cpus: int) -> float:
    """Fraction of the time in which at least one task of others waited, 0.0 to 1.0."""
    if others <= 0:
        return 0.0
    return min(max(others + min(own_cpus, cpus) - cpus, 0.0), 1.0)


def _number(word: str) -> int | None:
    """Parse a count; None if it is not one."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else None
