"""A helper as the daemon has them, and how much it leaves to busy loops that want the same CPU."""

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
"""Share of a helper that was raised, beside one rival; half would be fair."""

MEASURE_S = 1.0
"""CPU time that both together have used when a share is taken."""
PATIENCE_S = 30.0
"""For one step; a machine that is so busy can tell nothing."""


class WorkerEars:
    """Hears of one worker that it is ready, or that it is dead."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Worker | Death] = asyncio.Queue()

    def on_ready(self, worker: Worker) -> None:
        """It has set itself up."""
        self.told.put_nowait(worker)

    def on_done(self, worker: Worker, done: Done) -> None:
        """Nothing: the chunk is given back at the end."""

    def on_report(self, worker: Worker, report: Report) -> None:
        """Nothing is asked of it."""

    def on_dead(self, worker: Worker, death: Death) -> None:
        """It has ended."""
        self.told.put_nowait(death)


async def race_all(worker: Worker, cpu: int, root: HostRoot, raiser: Raiser, found: Findings) -> None:
    """One rival after the other; then the helper is raised, and lowered again."""
    await _patiently(lambda: raiser.find_out(worker.pid))
    found.add("raising by", ", ".join(raiser.methods) or "nothing")
    top: Path | None = None
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(rival.group_for_rival(root))
            top = group.parent
            other = stack.enter_context(rival.rival_on(cpu, group))
            await _race(worker.pid, other, "beside another cgroup", found)
        except IdleGroupRefused as error:
            found.add("beside another cgroup", f"not measured: {error}")
    # In the root, so that nothing but its session is what it has of its own.
    with rival.rival_on(cpu, top) as other:
        await _race(worker.pid, other, "beside another session", found)
        raised = await _raised(raiser, worker.pid)
        share = await _share(worker.pid, other)
        enough = "" if share > RAISED_ABOVE else ": a chunk that cannot be cut may never end"
        found.add("raised" if raised else "raised as far as can be", f"the helper keeps {share:.1%}{enough}")
        await _patiently(lambda: raiser.lower(worker.pid))
        await _race(worker.pid, other, "lowered again", found)


async def _raised(raiser: Raiser, pid: int) -> bool:
    """Raise it, as far as can be; a change of an autogroup may have to wait."""
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
    """Look ten times a second; raises TimeoutError when it never will be."""
    until_s = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > until_s:
            raise TimeoutError
        await asyncio.sleep(0.1)


@asynccontextmanager
async def busy_helper(pool: Pool, ears: WorkerEars) -> AsyncIterator[Worker]:
    """A helper of a pool that burns its CPU; the pool is started and closed here.

    Args:
        ears: the pool's listener.
    """
    pool.start()
    worker: Worker | Death | None = None
    try:
        worker = await _first(ears, pool)
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


async def _first(ears: WorkerEars, pool: Pool) -> Worker | Death:
    try:
        return await asyncio.wait_for(ears.told.get(), PATIENCE_S)
    except TimeoutError:
        raise TimeoutError(pool.trouble) from None
