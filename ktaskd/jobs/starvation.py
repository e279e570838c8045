"""Acts on helpers that other processes keep off the CPU, so that their jobs make progress.

First the helper's chunk is recalled, which needs no right and takes one quantum. Then the
helper is raised to normal priority until it has answered, one helper of a job at a time. If
that does not help soon and the function writes nothing, the lead runs the chunk as well. So
the lead never waits long for a helper without a CPU, and no worker touches a source after the
job has ended.

Source of the raise: ktask v4 05/13, which waits for one helper after the other
at the priority of the thread that waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Raiser, Worker
from ktaskd.jobs.roster import Record
from ktaskd.model.job import JobState

LOOK_S = 0.03
"""Time between two looks at the helpers of a job that a client waits for."""

LOOK_SLOW_S = 0.5
"""The same if no client waits."""

STANDS_STILL = 0.02
"""A helper that got less than this fraction of its CPU is recalled at once."""

STARVED = 0.5
"""At its end a job does not wait for a helper that got less than this fraction of its CPU. A lead
gets as much on a machine where everybody else has one thread for each CPU."""

LOWER_AGAIN_S = 0.1
"""The kernel accepts one change of an autogroup in this time. Source: kernel/sched/autogroup.c"""

RUN_AGAIN_AFTER = 3
"""Looks (0.1 s) in which a raised helper has to answer, before the lead runs its chunk as well."""

KILL_AFTER, KILL_STARVED_AFTER = 7, 40
"""Looks (0.2 and 1.2 s) after which a helper is killed that does not give back a void chunk; the second
is for a starved one."""


@dataclass(slots=True)
class _Sight:
    """A helper at the last look."""

    cpu_s: float
    at_s: float
    looks: int = 0
    """Looks in a row in which it was starved."""


class StarvedWatch:
    """Looks at the busy helpers as long as there are any."""

    def __init__(
        self,
        dispatch: Dispatch,
        counters: Counter[str],
        raiser: Raiser,
        settle: Callable[[Job], None],
    ) -> None:
        """Start without helpers.

        Args:
            settle: brings a job to its next state, and gives out what it has left.
        """
        self._settle = settle
        self._dispatch = dispatch
        self._kernel, self._roster = dispatch.kernel, dispatch.roster
        self._counters = counters
        self._raiser = raiser
        self._loop = asyncio.get_running_loop()
        self._sights: dict[Worker, _Sight] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._slow = False
        self._left: dict[Job, None] = {}
        """Jobs that helpers were taken off, or that have got positions back, in this look."""

    def on_join(self, worker: Worker, job: Job) -> None:
        """Note that a worker was given work; look at helpers from now on."""
        if not worker.is_lead:
            # A guest that is still being started has no process, and pid 0 would be ourselves.
            cpu_s = self._kernel.cpu_seconds(worker.pid) if worker.pid else 0.0
            self._sights[worker] = _Sight(cpu_s, self._loop.time())
            if self._timer is not None and self._slow and job.has_lead:
                self._timer.cancel()
                self._timer = None
            if self._timer is None:
                self._look_later(soon=True)

    def on_left(self, worker: Worker) -> None:
        """Note that a worker holds nothing any more."""
        self._sights.pop(worker, None)
        record = self._roster[worker]
        record.starved = False
        if record.partly_raised:
            self._lower(worker, record)

    def _lower(self, worker: Worker, record: Record) -> None:
        """Lower a raised worker; it gets no work before that has succeeded."""
        # The pid of a dead worker may be another process's, and a killed worker should die soon.
        still = not worker.is_dying and not self._raiser.lower(worker.pid)
        record.raised = record.partly_raised = still
        if still:
            self._loop.call_later(LOWER_AGAIN_S, self._lower, worker, record)
            # It will be tried again before its pause is over.
            self._dispatch.cooldowns.pause(worker, self._loop.time() + 2 * LOWER_AGAIN_S)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._sights:
            return
        # Ordered, unlike a set: the order decides which job has its helper raised first.
        job_of = self._dispatch.job_of
        jobs = dict.fromkeys(job for worker in self._sights if (job := job_of.get(worker)))
        if sum([self._note(worker) for worker in tuple(self._sights)]):
            self._roster.place_leads()
        for job in jobs:
            self._help(job)
        left, self._left = self._left, {}
        for job in left:
            self._settle(job)
        waited = any(job.has_lead or job.state is not JobState.RUNNING for job in jobs)
        if self._timer is None:
            self._look_later(soon=waited)

    def _look_later(self, *, soon: bool) -> None:
        self._slow = not soon
        self._timer = self._loop.call_later(LOOK_S if soon else LOOK_SLOW_S, self._look)

    def _note(self, worker: Worker) -> bool:
        """Note whether a helper is starved; return whether that has changed."""
        sight, now = self._sights[worker], self._loop.time()
        if now - sight.at_s < LOOK_S / 2 or not worker.pid:
            return False  # it has just begun, or not even that: there is nothing to measure yet
        cpu_s = self._kernel.cpu_seconds(worker.pid)
        record = self._roster[worker]
        share, before = (cpu_s - sight.cpu_s) / (now - sight.at_s), record.starved
        # A worker that sleeps waits for a disk, and not for a CPU: a raise is no help.
        record.starved = share < STARVED and self._kernel.state(worker.pid) == "R"
        sight.cpu_s, sight.at_s = cpu_s, now
        sight.looks = sight.looks + 1 if share < STARVED else 0
        if share < STANDS_STILL and record.starved:
            self._recall_early(worker)
        return record.starved != before

    def _recall_early(self, worker: Worker) -> None:
        """Recall starved helpers while the lead is still busy, so that it does not wait for them later."""
        job = self._dispatch.job_of.get(worker)
        if job is not None and job.has_lead and job.crew.held.get(worker):
            self._reclaim(worker)

    def _reclaim(self, worker: Worker) -> None:
        """Take everything from a helper that it has not claimed, and recall what it has."""
        job = self._dispatch.job_of.get(worker)
        if job is not None and job.goes_on and self._dispatch.leases.withdraw(worker, job):
            self._dispatch.want(job)
            self._left[job] = None
        worker.recall()
        if job is not None and not worker.memory_group and job.crew.holds_only_empty(worker):
            self._dispatch.strays.add(worker)
            self._left[job] = None

    def _help(self, job: Job) -> None:
        """Help a job that has nothing left but the chunks of slow helpers."""
        helpers = sorted(job.crew.helpers, key=lambda worker: worker.id)
        sights = {worker: self._sights[worker] for worker in helpers if not worker.resting}
        slow = [worker for worker, sight in sights.items() if sight.looks]
        if not slow or not self._waits_for_helpers(job, slow):
            return
        for worker in slow:
            self._reclaim(worker)
        stuck = [worker for worker in slow if worker in self._sights and self._sights[worker].looks > 1]
        if job.has_lead or job.state is not JobState.RUNNING:
            self._raise_one(job, stuck)
        if job.has_lead and job.state is JobState.RUNNING:
            self._run_again(job, stuck)
        self._end_void(stuck, job)

    def _waits_for_helpers(self, job: Job, slow: list[Worker]) -> bool:
        """Whether another worker could finish these helpers' chunks sooner, or no worker can continue."""
        if job.state is not JobState.RUNNING or job.crew.step_worker in slow:
            return True
        if job.checked.declaration.open_ended:
            # An open-ended job always has a slice left, but maybe no call that its caller waits for. So a
            # lead that sleeps in its slice without a call is no reason to wait.
            return job.has_lead and not (job.crew.lead and self._kernel.state(job.crew.lead.pid) == "R")
        if job.left or job.crew.lead is not None:
            return False
        return job.has_lead or self._roster.has_idle_helper

    def _raise_one(self, job: Job, stuck: list[Worker]) -> None:
        roster = self._roster
        if any(roster[worker].raised for worker in job.crew.helpers):
            return
        # A guest stays in its caller's memory cgroup; its job has no other worker anyway.
        worker = next(
            (worker for worker in stuck if roster[worker].starved and not worker.memory_group), None
        )
        if worker is None or worker.is_dying or not self._may_raise(job):
            return
        roster[worker].partly_raised = True  # even if only a part of the raise works
        if self._raiser.raise_(worker.pid):
            roster[worker].raised = True
            job.tally.raised += 1
            self._counters["helpers_raised"] += 1

    @staticmethod
    def _may_raise(job: Job) -> bool:
        """Whether helpers of a job may be raised: for a client of low priority, only to clean up."""
        ends = job.state not in (JobState.RUNNING, JobState.COMBINING)
        return ends or not job.caller.priority.lowered

    def _run_again(self, job: Job, stuck: list[Worker]) -> None:
        """Have the lead run the chunks of helpers that do not answer even when raised."""
        if not job.writes_nothing or job.crew.to_duplicate:
            return
        for worker in stuck:
            if not self._roster[worker].raised or self._sights[worker].looks > RUN_AGAIN_AFTER:
                job.crew.duplicate(worker)
        if job.crew.to_duplicate:
            self._dispatch.want(job)
            self._dispatch.pump()

    def _end_void(self, stuck: list[Worker], job: Job) -> None:
        """Kill workers that do not give back a void chunk, which is safe since they can only read.

        A starved worker takes long to die as well, so it gets more time.
        """
        for worker in stuck:
            record = self._roster[worker]
            most = KILL_AFTER if record.raised or not record.starved else KILL_STARVED_AFTER
            if self._sights[worker].looks > most and job.crew.holds_only_void(worker):
                worker.kill()
