"""Looks at the busy workers: which of them use a CPU, and which stand still.

Only workers that use a CPU count against the limits of leads and helpers. While jobs wait for
workers, the busy workers are looked at often. A worker that uses no CPU stops counting until it uses
one again, and another worker may start instead. A worker that stands still gets SIGCONT. If that does
not help it is killed, and another worker continues its job.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from ktaskd.jobs.course import is_repeatable
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.jobs.standstill import USES_NO_CPU, Held, Remedy, Sample, Sight, remedy
from ktaskd.model.function import Partial
from ktaskd.model.limits import ATTEMPTS_MAX

log = logging.getLogger(__name__)

LOOK_LEADS_S = 0.05
"""Time between two looks while a job waits for a lead."""

LOOK_EACH_S = 0.001
"""Least time between two looks, multiplied by the busy workers, so that many do not keep the daemon busy."""

LOOK_HELPERS_S = 0.25
"""Time between two looks while a job waits for a helper."""

LOOK_S = 0.5
"""Time between two looks while no job waits for a worker."""


class ActivityWatch:
    """Looks at busy workers for as long as there are any."""

    def __init__(self, dispatch: Dispatch, counters: Counter[str]) -> None:
        """Start without workers. Needs the running loop."""
        self._dispatch = dispatch
        self._kernel = dispatch.kernel
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._sights: dict[Worker, Sight] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.on_look: Callable[[], None] = lambda: None
        """Called at the end of each look."""

    def on_join(self) -> None:
        """Note that a worker was given work."""
        if self._timer is None:
            self._look_within(LOOK_S)

    def on_contended(self) -> None:
        """Note that jobs wait for workers that other jobs hold."""
        self._look_within(self._delay_s())

    def on_left(self, worker: Worker) -> None:
        """Note that a worker holds nothing any more."""
        self._sights.pop(worker, None)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _delay_s(self) -> float:
        if self._dispatch.demand.leads_are_contended:
            return max(LOOK_LEADS_S, LOOK_EACH_S * len(self._dispatch.job_of))
        return LOOK_HELPERS_S if self._dispatch.demand.helpers_are_contended else LOOK_S

    def _look_within(self, delay_s: float) -> None:
        at_s = self._loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        self._timer = None
        news = [self._look_at(worker, job) for worker, job in tuple(self._dispatch.job_of.items())]
        if any(news):
            self._dispatch.roster.recall_excess()
            self._dispatch.pump()
        self.on_look()
        if not all(worker.resting for worker in self._dispatch.job_of):
            self._look_within(self._delay_s())

    def _look_at(self, worker: Worker, job: Job) -> bool:
        """Look at one worker; return whether it has begun or stopped to count against the limits."""
        if not worker.pid or worker.is_dying or worker.resting:
            return False
        sight = self._sights.get(worker)
        sample = self._sample(worker, sight)
        if sight is None:
            self._sights[worker] = Sight(sample)
            return False
        sight.look(sample, lowered=worker.is_lead and worker.priority.lowered)
        self._help(worker, job, sight)
        holders = self._dispatch.roster.holders_of(worker)
        return holders.set_blocked(
            worker, blocked=sight.blocked and _may_count_as_blocked(worker, job, sight)
        )

    def _sample(self, worker: Worker, sight: Sight | None) -> Sample:
        now, cpu_s = self._loop.time(), self._kernel.cpu_seconds(worker.pid)
        seq, _ = worker.position
        busy = sight is not None and sight.share_until(now, cpu_s) >= USES_NO_CPU
        # A worker that uses its CPU does not stand still, whatever /proc reports.
        return Sample(now, cpu_s, "R" if busy else self._kernel.state(worker.pid), (seq, worker.beats))

    def _help(self, worker: Worker, job: Job, sight: Sight) -> None:
        """Resume a worker that stands still, or kill it so that another one takes its place."""
        todo = remedy(sight, worker.worker_class, _held(worker, job))
        if todo is Remedy.NONE:
            return
        words = (job.id, worker.id, worker.pid, worker.nid, sight.still_s)
        if todo is Remedy.RESUME:
            sight.resumed = True
            log.warning("worker_resumed job=%s worker=%d pid=%d nid=%d still_s=%.1f", *words)
            self._counters["workers_resumed"] += 1
            worker.resume()
            return
        sight.killed = True
        log.warning("worker_killed job=%s worker=%d pid=%d nid=%d reason=stands_still still_s=%.1f", *words)
        worker.kill(f"stood still for {sight.still_s:.0f} s")


def _may_count_as_blocked(worker: Worker, job: Job, sight: Sight) -> bool:
    """Whether another worker may run instead of one that uses no CPU.

    True for any lead, since a job that waits for a lead has no other worker. True for a helper only
    if it sleeps in code that is not ours: if it waits for a disk, another helper would add to
    the load on that disk.
    """
    return worker.is_lead or (sight.sleeps and (sight.stopped or job.checked.declaration.foreign))


def _held(worker: Worker, job: Job) -> Held:
    """The chunk or step that a worker has in hand, as `remedy` needs it."""
    seq, _ = worker.position
    declaration, crew = job.checked.declaration, job.crew
    if crew.step_worker is worker:
        begun, repeatable = seq >= crew.step_seq, _may_repeat_step(job)
    else:
        chunks = crew.held.get(worker, {})
        begun = seq in chunks
        first = min(chunks, default=0)
        attempt = job.attempts.get(chunks[first].chunk.start, 1) if chunks else ATTEMPTS_MAX
        safe = not begun or (job.writes_nothing and declaration.partial is Partial.RERUN_SAFE)
        repeatable = safe and attempt < ATTEMPTS_MAX
    return Held(begun, declaration.foreign, declaration.own, repeatable)


def _may_repeat_step(job: Job) -> bool:
    step = job.step
    if step is None or not step.only_reads:
        return False
    return is_repeatable(job, step) and job.step_attempts < ATTEMPTS_MAX
