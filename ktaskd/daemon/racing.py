"""Runs a helper next to busy loops that use the same CPU, and measures how much it takes from them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ktaskd.daemon.findings import Findings
from ktaskd.host.cgroups.idlegroup import IdleGroupRefused
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling import rival
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.pool.death import Death
from ktaskd.pool.link import Worker
from ktaskd.pool.pool import Pool
from ktaskd.worker.frames import Done
from ktaskd.worker.messages import Report

RAISED_ABOVE = 0.30
"""CPU share of a raised helper next to one rival that counts as enough; half would be fair."""

MEASURE_S = 1.0
"""CPU time that both together must have used before a share is computed."""
PATIENCE_S = 30.0
"""Longest time for one step; nothing can be measured on a machine that is busier than that."""


class WorkerQueue:
    """Queues the start and the death of one worker."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Worker | Death] = asyncio.Queue()

    def on_ready(self, worker: Worker) -> None:
        """Queue a worker that is ready."""
        self.queue.put_nowait(worker)

    def on_done(self, worker: Worker, done: Done) -> None:
        """Ignore it: the chunk is given back at the end."""

    def on_report(self, worker: Worker, report: Report) -> None:
        """Ignore it: nothing was asked."""

    def on_dead(self, worker: Worker, death: Death) -> None:
        """Queue the death of a worker."""
        self.queue.put_nowait(death)


async def race_all(worker: Worker, cpu: int, root: HostRoot, raiser: Raiser, found: Findings) -> None:
    """Race against one rival after the other, then with the helper raised and lowered again."""
    await _patiently(lambda: raiser.find_out(worker.pid))
    found.add("raising by", ", ".join(raiser.methods) or "nothing")
    top: Path | None = None
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(rival.group_for_rival(root))
            top = group.parent
            other = stack.enter_context(rival.rival_on(cpu, group))
            await _race(worker.pid, other, "next to another cgroup", found)
        except IdleGroupRefused as error:
            found.add("next to another cgroup", f"not measured: {error}")
    # This rival runs in the root cgroup, so that only its session sets it apart.
    with rival.rival_on(cpu, top) as other:
        await _race(worker.pid, other, "next to another session", found)
        raised = await _raised(raiser, worker.pid)
        share = await _share(worker.pid, other)
        enough = "" if share > RAISED_ABOVE else ": a chunk that cannot be cut may never end"
        found.add("raised" if raised else "raised in part", f"the helper keeps {share:.1%}{enough}")
        await _patiently(lambda: raiser.lower(worker.pid))
        await _race(worker.pid, other, "lowered again", found)


async def _raised(raiser: Raiser, pid: int) -> bool:
    """Raise the helper; return whether that worked in full. A change of an autogroup may have to wait."""
    for _ in range(20):
        if raiser.raise_(pid):
            return True
        await asyncio.sleep(0.1)
    return False


async def _race(helper: int, other: int, name: str, found: Findings) -> None:
    share = await _share(helper, other)
    found.shares.append(share)
    found.add(name, f"the helper keeps {share:.1%} of the CPU")


async def _share(helper: int, other: int) -> float:
    race = rival.Race(helper, other)
    await _patiently(lambda: sum(race.used) >= MEASURE_S)
    return race.fraction


async def _patiently(reached: Callable[[], bool]) -> None:
    """Check ten times a second; raises TimeoutError after PATIENCE_S."""
    until_s = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > until_s:
            raise TimeoutError
        await asyncio.sleep(0.1)


@asynccontextmanager
async def busy_helper(pool: Pool, events: WorkerQueue) -> AsyncIterator[Worker]:
    """Start a pool and a helper in it that burns its CPU; close the pool at the end.

    Args:
        events: the pool's listener.
    """
    pool.start()
    worker: Worker | Death | None = None
    try:
        worker = await _first(events, pool)
        if isinstance(worker, Death):
            raise ChildProcessError(f"a helper could not be started: {worker}")
        body = {
            "function": "selftest.spin",
            "arg": {"ms": 3_600_000},
            "sources": {},
            "span": [0, 1],
            "whole": True,
        }
        worker.send_job(1, body)
        worker.send_chunk(1, 0, 1)
        yield worker
    finally:
        if isinstance(worker, Worker):
            worker.kill()
        await pool.close(PATIENCE_S)


async def _first(events: WorkerQueue, pool: Pool) -> Worker | Death:
    try:
        return await asyncio.wait_for(events.queue.get(), PATIENCE_S)
    except TimeoutError:
        raise TimeoutError(pool.trouble) from None
