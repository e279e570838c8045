"""The watches, which look at busy workers and unfinished jobs from time to time."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from ktaskd.jobs.activity import ActivityWatch
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.hang import HangWatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.patience import Patience
from ktaskd.jobs.ports import NoRaiser, Raiser, Worker
from ktaskd.jobs.registry import Registry
from ktaskd.jobs.rescue import Rescue
from ktaskd.jobs.saturated import SaturationWatch
from ktaskd.jobs.starvation import StarvedWatch

log = logging.getLogger(__name__)


class Watches:
    """All watches, connected with the events that make them look.

    Args:
        raiser: raises starved helpers; None = they cannot be raised.
        settle: brings a job to its next state, and gives out what it has left.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        registry: Registry,
        counters: Counter[str],
        patience: Patience,
        raiser: Raiser | None,
        settle: Callable[[Job], None],
    ) -> None:
        """Start without workers and jobs. Needs the running loop."""
        self._dispatch, self._registry = dispatch, registry
        self._loop = asyncio.get_running_loop()
        self._hang = HangWatch(patience.hang_cpu_s, dispatch.kernel.cpu_seconds)
        self._looking: asyncio.TimerHandle | None = None
        self.starved = StarvedWatch(dispatch, counters, raiser or NoRaiser(), settle)
        self.rescue = Rescue(dispatch, registry, counters, patience.starvation_s)
        self.activity = ActivityWatch(dispatch, counters)
        self._saturation = SaturationWatch(dispatch)
        dispatch.on_join = self._on_join
        dispatch.on_left = self._on_left
        dispatch.on_awake = self._on_awake
        dispatch.on_contended = self.activity.on_contended
        dispatch.stand_ins.raiser = raiser or NoRaiser()
        dispatch.demand.can_raise = lambda: raiser is not None and bool(raiser.methods)

    def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
        self.starved.close()
        self.activity.close()
        self._saturation.close()
        self.rescue.close()

    def _on_left(self, worker: Worker) -> None:
        self.starved.on_left(worker)
        self.activity.on_left(worker)

    def _on_awake(self, worker: Worker, job: Job) -> None:
        self.starved.on_join(worker, job)
        self.activity.on_join()

    def _on_join(self, worker: Worker, job: Job) -> None:
        self._on_awake(worker, job)
        self._saturation.on_join(job)
        if job.watchers and len(job.crew.helpers) + (job.crew.lead is not None) == 1:
            job.touch()  # a job that no worker works on makes no progress to report

    def on_start(self) -> None:
        """Note that a job has begun; look for workers that hang as long as any is busy."""
        limit_s = self._hang.limit_s
        if self._looking is None and limit_s:
            self._looking = self._loop.call_later(min(max(limit_s / 4, 0.05), 5.0), self._look)

    def _look(self) -> None:
        self._looking = None
        # A caller's own code may take as long as it likes; its owner can cancel the job.
        others = [at for at, job in self._dispatch.job_of.items() if not job.checked.declaration.own]
        for worker in self._hang.look(others):
            log.warning("worker_hangs worker=%d pid=%d nid=%d", worker.id, worker.pid, worker.nid)
            worker.kill(f"used {self._hang.limit_s:g} s of CPU time without progress")
        if self._registry.unended:
            self.on_start()
