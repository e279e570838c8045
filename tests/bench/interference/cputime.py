"""How much CPU time processes have had, to the nanosecond where one counts it so."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


def on_cpu(pids: Iterable[int]) -> float:
    """Seconds that these processes have had so far, all threads; one that is gone counts 0.

    Source: Documentation/scheduler/sched-stats.rst of the kernel, /proc/PID/schedstat
    """
    return sum(_task_seconds(pid) for pid in pids)


def _task_seconds(pid: int) -> float:
    total = 0
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def tree(pid: int) -> float:
    """Seconds that a process and all below it have had, children that have ended included.

    In steps of 10 ms: what has ended is only known so.
    """
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
    return total
