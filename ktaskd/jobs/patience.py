"""Limits on how long jobs and workers are waited for, and the clocks for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def boot_seconds() -> float:
    """Seconds since the machine was started, those of its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds.

    Args:
        grace_s: that a worker has to give a chunk back when its job stops, before it is killed.
        fence_s: that a killed worker has to be seen dead, before its job is reported dirty with WORKER_STUCK.
        hang_cpu_s: CPU time that a worker may use without a quantum, before it is killed; 0 = no limit.
        starvation_s: without progress after which a job gets a lead that nobody waits for; 0 = it gets none.
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
        boot: seconds of a clock that nobody sets, also while the machine sleeps; ended
            jobs are kept by it.
    """

    wall: Callable[[], float]
    boot: Callable[[], float] = boot_seconds
