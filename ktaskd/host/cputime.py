"""How much CPU time another process has used, and whether it wants more."""

from __future__ import annotations

import time
from pathlib import Path

_CPUCLOCK_SCHED = 2
"""Source: include/linux/posix-timers.h, MAKE_PROCESS_CPUCLOCK"""


def read_cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used since it started; 0.0 if it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def is_runnable(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process runs or waits for a CPU; False if it sleeps, is stopped or gone."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return False
    # The name before it may hold anything, parentheses too. Source: proc_pid_stat(5)
    return stat.rpartition(b")")[2].split()[:1] == [b"R"]
