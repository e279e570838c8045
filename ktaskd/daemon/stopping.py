"""Ends the jobs that still run when the daemon is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from ktaskd.jobs.engine import Engine
from ktaskd.jobs.slices import breathe, slices
from ktaskd.model.job import JobError

log = logging.getLogger(__name__)


async def end_jobs(engine: Engine, stop_s: float) -> None:
    """Stop every job, and wait at most `stop_s` seconds until all are undone."""
    for jobs in slices(engine.registry.running, 50):
        for job in jobs:
            engine.stop(job, JobError("SHUTDOWN", "the daemon was asked to stop"), cancel=True)
        await breathe()
    idle = asyncio.Event()
    engine.on_idle = idle.set
    if engine.registry.unended:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(idle.wait(), stop_s)
    if engine.registry.unended:
        log.error("jobs_not_ended count=%d", engine.registry.unended)
