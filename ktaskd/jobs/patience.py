"""Time limits of jobs and workers, and the clocks for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def boot_seconds() -> float:
    """Return the seconds since the machine was started, including those that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits in seconds.

    Args:
        grace_s: in which a worker has to give a chunk back when its job stops, before it is killed.
        fence_s: in which a killed worker has to die, before its job is reported dirty with WORKER_STUCK.
        hang_cpu_s: CPU time that a worker may use without finishing a quantum; 0 = no limit.
        starvation_s: without progress, after which a job gets a lead although no client waits; 0 = never.
    """

    grace_s: float
    fence_s: float
    hang_cpu_s: float = 0.0
    starvation_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks that times are read from.

    Args:
        wall: seconds since the epoch, for display.
        boot: seconds since the machine was started, including its sleep. Ended jobs are
            kept by this clock, which nobody can set.
    """

    wall: Callable[[], float]
    boot: Callable[[], float] = boot_seconds
