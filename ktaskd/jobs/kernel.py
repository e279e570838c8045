"""The kernel of this machine, as jobs ask it about workers."""

from __future__ import annotations

from collections.abc import Mapping

from ktaskd.host.scheduling.cputime import read_cpu_seconds, read_state
from ktaskd.host.scheduling.priority import set_priority
from ktaskd.host.scheduling.raising import bind_to_cpus
from ktaskd.model.priority import Priority


class HostKernel:
    """Asks by system calls; see `jobs.ports.Kernel`."""

    def cpu_seconds(self, pid: int) -> float:
        """CPU seconds that a process has used so far."""
        return read_cpu_seconds(pid)

    def state(self, pid: int) -> str:
        """State of its main thread, one letter."""
        return read_state(pid)

    def bind(self, pid: int, cpus: frozenset[int]) -> bool:
        """Let a process run on these CPUs only."""
        return bind_to_cpus(pid, cpus)

    def set_priority(self, pid: int, priority: Priority) -> Mapping[str, OSError]:
        """Set nice value, policy and I/O class."""
        return set_priority(pid, priority)
