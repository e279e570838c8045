"""Passes what workers send on to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ktaskd.jobs.engine import Engine
from ktaskd.pool.death import Death
from ktaskd.pool.link import Worker
from ktaskd.worker.frames import Done
from ktaskd.worker.messages import Report


class WorkerEvents:
    """Passes what workers send on to the engine, and notes the first that is ready."""

    def __init__(self, engine: Engine, on_ready: Callable[[Worker], None]) -> None:
        """Call `on_ready` with each worker before the engine gets it."""
        self.engine = engine
        self.ready = asyncio.Event()
        self._on_ready = on_ready

    def on_ready(self, worker: Worker) -> None:
        """Pass on that a worker is ready."""
        self.ready.set()
        self._on_ready(worker)
        self.engine.on_ready(worker)

    def on_done(self, worker: Worker, done: Done) -> None:
        """Pass on that a chunk is done."""
        self.engine.on_done(worker, done)

    def on_report(self, worker: Worker, report: Report) -> None:
        """Pass on any other answer."""
        self.engine.on_report(worker, report)

    def on_dead(self, worker: Worker, death: Death) -> None:
        """Pass on that a worker has ended."""
        self.engine.on_dead(worker, death)
