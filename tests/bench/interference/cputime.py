"""The CPU time of processes, in nanoseconds where the kernel counts them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


def on_cpu(pids: Iterable[int]) -> float:
    """Seconds that all threads of these processes have had so far; an ended process counts 0.

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
    """Seconds that a process and its descendants have had, including children that have ended.

    In steps of 10 ms: the time of ended processes is known only to that precision.
    """
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
    return total
