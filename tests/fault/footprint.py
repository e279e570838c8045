"""The footprint of a daemon: processes, descriptors, counters and memory, the same before and after."""

from __future__ import annotations

import os
import re
import time
from collections import Counter

import psutil
from ktask.v1 import control_pb2 as cpb

from tests.fault.work import FILE, MEMFD
from tests.support.real_daemon import Daemon, Stubs

SETTLE_S = 30.0
"""A daemon that takes longer than this after its last job has not come to rest."""

LOOKS = 4
"""Looks that must agree before their result counts as the state at rest."""

COUNTERS = ("jobs_unended", "handles", "handoff_connections", "keepers")
MEMORY = "private bytes of the daemon"
IN_A_WORKER = "descriptors of a worker"


def footprint(daemon: Daemon, status: cpb.Status) -> dict[str, int]:
    """Everything that must be the same before and after."""
    counters = {counter.name: counter.value for counter in status.counters}
    found: Counter[str] = Counter()
    for name in COUNTERS:
        found[name] = counters[name]
    for pool in status.pools:
        for worker in pool.workers:
            state = cpb.WorkerState.Name(worker.state).removeprefix("WORKER_STATE_").lower()
            found[f"workers in {pool.name}, {state}"] += 1
            if worker.state == cpb.WORKER_STATE_IDLE:
                for what, count in descriptors(worker.pid).items():
                    name = f"{IN_A_WORKER} in {pool.name}: {what}"
                    found[name] = max(found[name], count)
    for process in daemon.tree():
        found[f"processes called {process.name()}"] += 1
    for what, count in descriptors(daemon.process.pid).items():
        found[f"descriptors of the daemon: {what}"] = count
    found[MEMORY] = int(psutil.Process(daemon.process.pid).memory_full_info().uss)
    return dict(found)


def descriptors(pid: int) -> Counter[str]:
    """The number of descriptors of each kind that a process has open."""
    found: Counter[str] = Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[re.sub(r"\d+", "N", os.readlink(f"/proc/{pid}/fd/{name}"))] += 1
        except FileNotFoundError:
            continue
    return found


def settled(daemon: Daemon, stubs: Stubs, wanted: dict[str, int] | None) -> dict[str, int]:
    """The footprint as soon as it is as wanted, or at rest and stable; otherwise the last one."""
    deadline, before, same = time.monotonic() + SETTLE_S, None, 0
    while True:
        try:
            found = footprint(daemon, stubs.control.GetStatus(cpb.GetStatusRequest()).status)
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue
        figures = {name: value for name, value in found.items() if name != MEMORY}
        same = same + 1 if figures == before else 0
        before = figures
        if wanted is None:
            done = same >= LOOKS and at_rest(found)
        else:
            done = figures == {name: value for name, value in wanted.items() if name != MEMORY}
        if done or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def at_rest(found: dict[str, int]) -> bool:
    """Whether nothing is going on, as far as the daemon and the workers' descriptors say."""
    idle = all(name.endswith(", idle") for name in found if name.startswith("workers in "))
    # It was asked to forget its sources, but at its priority may not have run yet.
    forgot = not any(name.startswith(IN_A_WORKER) and is_source(name) for name in found)
    # The governor keeps looking for a moment after the last job.
    calm = not any("/proc/pressure/" in name for name in found)
    return idle and forgot and calm and not found["jobs_unended"] and found["handles"] == 1


def is_source(name: str) -> bool:
    """Whether a descriptor's name is that of a job's source."""
    return f"memfd:{MEMFD}" in name or f"/{FILE}" in name
