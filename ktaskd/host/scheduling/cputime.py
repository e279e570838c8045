"""How much CPU time another process has used, and whether it is runnable."""

from __future__ import annotations

import time
from pathlib import Path

_CPUCLOCK_SCHED = 2
"""Source: include/linux/posix-timers.h, MAKE_PROCESS_CPUCLOCK"""


def read_cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used since its start; 0.0 if it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def read_state(pid: int, proc: Path = Path("/proc")) -> str:
    """The state of a process's main thread, one letter; "" if the process is gone.

    "R" runs or waits for a CPU, "S" sleeps, "D" waits for a disk, "T" and "t" are
    stopped, "Z" is a zombie. Source: proc_pid_stat(5)
    """
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return ""
    # The name before it may contain anything, including parentheses.
    fields = stat.rpartition(b")")[2].split(maxsplit=1)
    return fields[0].decode(errors="replace") if fields else ""


def is_runnable(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process runs or waits for a CPU; False if it sleeps, is stopped or gone."""
    return read_state(pid, proc) == "R"
