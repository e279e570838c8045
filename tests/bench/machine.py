"""Facts about the machine and the versions that figures depend on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import grpc


def describe_machine() -> dict[str, str]:
    """Name and value of each fact."""
    usable = len(os.sched_getaffinity(0))
    return {
        "cpu": _cpu_model(),
        "cores": f"{os.cpu_count()}, {usable} of them usable",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "load": load(),
    }


def load() -> str:
    """The average number of runnable tasks in the last 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
