"""One real pool, and a listener that records what its workers report."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool.death import Death
from ktaskd.pool.link import Worker
from ktaskd.pool.pool import Pool, PoolHooks, PoolSpec
from ktaskd.worker.frames import Done
from ktaskd.worker.messages import Report

CPUS = tuple(sorted(os.sched_getaffinity(0)))
PATIENCE_S = 40.0
"""Seconds after which a test that will never pass gives up."""


class WorkerEvents:
    """All that was reported, in order."""

    def __init__(self) -> None:
        self.ready: list[Worker] = []
        self.done: list[Done] = []
        self.reports: list[Report] = []
        self.dead: list[tuple[Worker, Death]] = []
        self.changed = asyncio.Event()

    def on_ready(self, worker: Worker) -> None:
        self.ready.append(worker)
        self.changed.set()

    def on_done(self, worker: Worker, done: Done) -> None:
        self.done.append(done)
        self.changed.set()

    def on_report(self, worker: Worker, report: Report) -> None:
        self.reports.append(report)
        self.changed.set()

    def on_dead(self, worker: Worker, death: Death) -> None:
        self.dead.append((worker, death))
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await self.changed.wait()


@asynccontextmanager
async def pool(
    size: int = 1,
    warm: int | None = None,
    idle_timeout_s: float = 0.0,
    retire: Callable[[Worker], None] = lambda _: None,
    usual: int = 0,
) -> AsyncIterator[tuple[Pool, WorkerEvents]]:
    """A pool of leads whose warm workers are ready."""
    events, numbers, bugs = WorkerEvents(), itertools.count(1), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(repr(context)))
    warm = size if warm is None else warm
    spec = PoolSpec(
        "test", WorkerClass.LEAD, -1, CPUS, size, warm, idle_timeout_s=idle_timeout_s, usual=usual
    )
    made = Pool(spec, events, lambda: next(numbers), hooks=PoolHooks(retire=retire))
    made.start()
    try:
        await events.until(lambda: len(events.ready) >= warm)
        yield made, events
    finally:
        await made.close(10.0)
    assert not bugs


def hang_up(made: Pool) -> None:
    """Leave the pool host without its daemon, as the kernel does when the daemon dies."""
    assert made._host._host is not None
    made._closing = True
    made._host._host.control.shutdown(socket.SHUT_RDWR)


def idle(made: Pool) -> list[Worker]:
    return [worker for worker in made.workers if worker.state is WorkerState.IDLE]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test

    asyncio.run(bounded())


def noop(worker: Worker, jno: int = 1) -> None:
    """Send it a job that does nothing."""
    worker.send_job(
        jno, {"function": "selftest.noop", "arg": {}, "sources": {}, "span": [0, 1], "whole": True}
    )
