"""Ends a job: releases everything that the job held, and keeps its record for a while."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Set

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.jobs import joblines, view
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.patience import Clocks
from ktaskd.jobs.ports import Worker
from ktaskd.jobs.registry import Registry
from ktaskd.jobs.slices import SLICE, for_each
from ktaskd.jobs.stories import Stories
from ktaskd.jobs.volume import processed_bytes


class Closing:
    """Closes the books of ended jobs.

    Args:
        workers: returns all living workers of every pool.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        registry: Registry,
        counters: Counter[str],
        workers: Set[Worker],
        clocks: Clocks,
        stories: Stories,
    ) -> None:
        """Start with no ended job. Needs the running loop."""
        self.on_idle: Callable[[], None] = lambda: None
        self.on_ended: Callable[[Job, int], None] = lambda _, __: None
        self._dispatch, self._registry, self._counters = dispatch, registry, counters
        self._workers = workers
        self._clocks, self._stories = clocks, stories
        self._loop = asyncio.get_running_loop()
        self._forgetting: asyncio.TimerHandle | None = None

    def end(self, job: Job) -> None:
        """End a job that is in its final state and that no worker holds anything of."""
        self._dispatch.unwant(job)
        for worker in job.crew.introduced & self._workers:
            worker.forget_job(job.jno)
        workers, volume = len(job.crew.introduced), processed_bytes(job)
        job.crew.introduced.clear()
        self._stories.end(job)
        for_each(job.owned, HeldSource.release)
        job.end(self._clocks.wall(), self._clocks.boot(), view.progress(job))
        self._counters[f"jobs_{job.state.value}"] += 1
        # Later in this turn of the loop, so that the client gets its answer first.
        self._loop.call_soon(joblines.log_ended, job, volume, workers)
        self.on_ended(job, volume)
        self._registry.note_ended(job)
        self._forget_later()
        if not self._registry.unended:
            self.on_idle()

    def _forget_later(self) -> None:
        if self._forgetting is None:
            keep_s = self._registry.limits.keep_s
            self._forgetting = self._loop.call_later(keep_s, self._forget_now)

    def _forget_now(self) -> None:
        self._forgetting = None
        keep_s = self._registry.limits.keep_s
        oldest_s = self._registry.forget_ended_before(self._clocks.boot() - keep_s, SLICE)
        if oldest_s is not None:
            delay_s = max(oldest_s + keep_s - self._clocks.boot(), 0.1)
            self._forgetting = self._loop.call_later(delay_s, self._forget_now)

    def close(self) -> None:
        """Stop the timer."""
        if self._forgetting is not None:
            self._forgetting.cancel()
