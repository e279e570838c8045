"""How much CPU time another process has used."""

from __future__ import annotations

import time

_CPUCLOCK_SCHED = 2
"""Source: include/linux/posix-timers.h, MAKE_PROCESS_CPUCLOCK"""


def read_cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used since it started; 0.0 if it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0
