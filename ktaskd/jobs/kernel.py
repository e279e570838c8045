"""Asks the kernel about workers, and changes their CPUs and priorities."""

from __future__ import annotations

from collections.abc import Mapping

from ktaskd.host.scheduling.cputime import read_cpu_seconds, read_state
from ktaskd.host.scheduling.priority import set_priority
from ktaskd.host.scheduling.raising import bind_to_cpus
from ktaskd.model.priority import Priority


class HostKernel:
    """Implements `jobs.ports.Kernel` with system calls."""

    def cpu_seconds(self, pid: int) -> float:
        """Return the CPU seconds that a process has used so far; 0.0 if it is gone."""
        return read_cpu_seconds(pid)

    def state(self, pid: int) -> str:
        """Return the state of its main thread, one letter; "" if it is gone."""
        return read_state(pid)

    def bind(self, pid: int, cpus: frozenset[int]) -> bool:
        """Let a process run on these CPUs only; return False if it is gone or not ours."""
        return bind_to_cpus(pid, cpus)

    def set_priority(self, pid: int, priority: Priority) -> Mapping[str, OSError]:
        """Set nice value, policy and I/O class; return the errors of those that could not be set."""
        return set_priority(pid, priority)
