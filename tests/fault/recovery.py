"""How long it takes until a dead worker, or a dead pool host, is replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from ktask.v1 import control_pb2 as cpb

from tests.support.real_daemon import Stubs, until

TIMES = 5


def pools(stubs: Stubs) -> list[cpb.Pool]:
    return list(stubs.control.GetStatus(cpb.GetStatusRequest()).status.pools)


def pids(stubs: Stubs) -> tuple[set[int], set[int]]:
    """Pids of the pool hosts, and of the workers that can be given work."""
    found = pools(stubs)
    ready = {worker.pid for pool in found for worker in pool.workers if worker.state == cpb.WORKER_STATE_IDLE}
    return {pool.host_pid for pool in found if pool.host_pid}, ready


def measure(stubs: Stubs, times: int = TIMES) -> dict[str, list[float]]:
    """Kill an idle worker, and a pool host, again and again; seconds until as many are ready as before."""
    hosts, workers = pids(stubs)
    found: dict[str, list[float]] = {"worker": [], "pool host": []}
    for _ in range(times):
        found["worker"].append(_replaced(stubs, lambda: min(pids(stubs)[1]), len(hosts), len(workers)))
        found["pool host"].append(_replaced(stubs, lambda: min(pids(stubs)[0]), len(hosts), len(workers)))
    return found


def _replaced(stubs: Stubs, victim: Callable[[], int], hosts: int, workers: int) -> float:
    struck = victim()
    before = pids(stubs)[1]
    with contextlib.suppress(ProcessLookupError):
        os.kill(struck, signal.SIGKILL)
    began_s = time.monotonic()

    def whole() -> bool:
        now = pids(stubs)
        return struck not in now[0] | now[1] and (len(now[0]), len(now[1])) == (hosts, workers)

    until(lambda: pids(stubs)[1] != before, "its death is seen")
    until(whole, "the pools are back to size")
    return time.monotonic() - began_s
