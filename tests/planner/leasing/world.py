"""A daemon, its messages and its workers, event by event."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from random import Random

from ktaskd.model.limits import LEASE_REPORT_S
from tests.planner.leasing.books import QUANTUM, Held, Job, Worker
from tests.planner.leasing.rules import Rule
from tests.planner.leasing.speed import RATE

MESSAGE_S = 15e-6
"""CPU time of the daemon for one message: a chunk that is handed out and answered was measured as 30 us."""

STEAL_S, LOOK_AT_S = 5e-6, 2e-6
"""The same for moving the end of a lease, which is one system call, and for a look at each lease before."""

DELAY_S, MORE_DELAY_S = 40e-6, 20e-6
"""Least time until a message is seen, and the mean of what comes on top of it."""

LOOK_S = 0.03
"""How often the daemon looks for starved workers."""

RECENT_S = 1.0
"""Pieces stay short for this long after another job arrives."""


class World:
    """Runs jobs to their end under one rule.

    Args:
        arrivals: jobs, each with the time at which it arrives, ascending.
    """

    def __init__(
        self, rule: Rule, workers: Sequence[Worker], arrivals: Sequence[tuple[float, Job]], random: Random
    ) -> None:
        self.rule, self.workers, self._random = rule, workers, random
        self.now_s = self._free_s = self.end_s = 0.0
        self.messages = self.steals = self._looks = 0
        self.daemon_s = 0.0
        self.had: dict[int, float] = defaultdict(float)
        """CPU seconds that a user is charged, and some in advance."""
        self.used: dict[int, float] = defaultdict(float)
        """CPU seconds that a user has had."""
        self.fair_at: dict[int, float] = {}
        """`used` when the first user had nothing left."""
        self._jobs: dict[int, deque[Job]] = defaultdict(deque)
        self._unended = len(arrivals)
        self._of_user: dict[int, int] = defaultdict(int)
        self._idle = dict.fromkeys(workers)
        self._active: dict[Job, None] = {}
        self._arrived_s = -RECENT_S
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        for at_s, job in arrivals:
            self._of_user[job.user] += 1
            self._at(at_s, lambda job=job: self._arrive(job))  # type: ignore[misc]
        self._at(LOOK_S, self._look)

    # -- time --------------------------------------------------------------------------

    def _at(self, time_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._numbers), do))

    def run(self) -> None:
        """Run until all jobs have ended."""
        while self._unended:
            self.now_s, _, do = heapq.heappop(self._events)
            do()

    def _delay(self) -> float:
        return DELAY_S + self._random.expovariate(1 / MORE_DELAY_S)

    def _spend(self, cost_s: float) -> float:
        """Let the daemon work for so long; return when it is ready."""
        cost_s += LOOK_AT_S * (self.rule.looks - self._looks)
        self._looks = self.rule.looks
        self._free_s = max(self._free_s, self.now_s) + cost_s
        self.daemon_s += cost_s
        return self._free_s

    def _tell_daemon(self, do: Callable[[], None]) -> None:
        """A message of a worker: it is seen later, and handled when the daemon is free."""
        self.messages += 1
        self._at(self.now_s + self._delay(), lambda: self._at(self._spend(MESSAGE_S), do))

    # -- the daemon ---------------------------------------------------------------------

    def _arrive(self, job: Job) -> None:
        others = bool(self._active)
        self._active[job] = None
        self._jobs[job.user].append(job)
        if others and self.now_s >= self._arrived_s + RECENT_S:
            for worker in self.workers:
                for held in worker.queue[:1]:
                    if self.rule.is_patient(held):
                        self._recall(worker)
        if others:
            self._arrived_s = self.now_s
        self._pump()

    def _alone(self, job: Job) -> bool:
        return len(self._active) == 1 and self.now_s >= self._arrived_s + RECENT_S

    def _may_join(self, job: Job) -> bool:
        if len(job.held) >= job.threads:
            return False
        return bool(job.waiting) or self.rule.may_divide(job, self.now_s)

    def _next_job(self) -> Job | None:
        """The oldest job that has work, of the user that had the least CPU time."""
        for user in sorted(self._jobs, key=self.had.__getitem__):
            for job in self._jobs[user]:
                if self._may_join(job):
                    return job
        return None

    def _pump(self) -> None:
        for worker in list(self._idle):
            job = self._next_job()
            if job is None:
                return
            self._give(worker, job)

    def _give(self, worker: Worker, job: Job) -> None:
        if not job.waiting:
            self._divide(worker, job)
        alone = self._alone(job)
        slice_s = self.rule.slice_s(job, alone=alone)
        sent = False
        for size in self.rule.sizes(job, worker, len(self.workers), alone=alone):
            taken = job.take(size, worker.nid)
            if taken is None:
                break
            start, end, nid = taken
            held = Held(job, start, end, nid, slice_s, sent_s=self.now_s)
            held.charged_s = min((end - start) / (job.rate or RATE), slice_s or LEASE_REPORT_S)
            self.had[job.user] += held.charged_s
            job.held.setdefault(worker, []).append(held)
            worker.queue.append(held)
            sent = True
        if not sent:
            return
        self._idle.pop(worker, None)
        worker.job = job
        self.messages += 1
        ready_s = self._spend(MESSAGE_S)
        if worker.queue[0].begun_s < 0:
            self._at(ready_s + self._delay(), lambda: self._begin(worker))

    def _divide(self, worker: Worker, job: Job) -> None:
        chosen = self.rule.divide(job, worker, self.now_s)
        if chosen is not None:
            self.steals += 1
            self._spend(STEAL_S)
            self._shorten(chosen[0], chosen[1])

    def _shorten(self, worker: Worker, cut: int) -> None:
        held = worker.queue[0]
        end = max(cut, worker.claim(self.now_s))
        if end < held.end:
            held.job.waiting.append([end, held.end, held.nid])
            held.end = end
            if held.begun_s >= 0:
                self._plan(worker)

    def _recall(self, worker: Worker) -> None:
        held = worker.queue[0]
        held.stop_s = min(held.stop_s, self.now_s)
        if held.begun_s >= 0:
            self._plan(worker)

    def _look(self) -> None:
        """Take from starved workers what they have not claimed, or recall their chunks."""
        for worker in self.workers:
            if not worker.queue or worker.queue[0].begun_s < 0:
                continue
            position = worker.speed.done(self.now_s)
            if position == worker.seen:
                if self.rule.reports and worker.queue[0].end > worker.claim(self.now_s):
                    self._shorten(worker, worker.claim(self.now_s))
                self._recall(worker)
                if self._idle:
                    self._raise(worker)
            worker.seen = position
        self._pump()
        self._at(self.now_s + LOOK_S, self._look)

    def _raise(self, worker: Worker) -> None:
        """Give a starved worker a CPU until it has done its quantum: others have nothing to do."""
        worker.version += 1
        version, end = worker.version, worker.claim(self.now_s)
        needs_s = (end - worker.position(self.now_s)) / RATE
        self._at(self.now_s + needs_s, lambda: self._stop(worker, version, end))

    # -- a worker -----------------------------------------------------------------------

    def _begin(self, worker: Worker) -> None:
        if not worker.queue or worker.queue[0].begun_s >= 0:
            return
        held = worker.queue[0]
        held.begun_s, held.first = self.now_s, held.start
        if held.slice_s:
            held.stop_s = min(held.stop_s, self.now_s + held.slice_s)
        self._plan(worker)
        if self.rule.reports:
            self._at(self.now_s + LEASE_REPORT_S, lambda: self._report(worker, held))

    def _plan(self, worker: Worker) -> None:
        """Foresee when the worker stops, and where."""
        held = worker.queue[0]
        worker.version += 1
        version, end = worker.version, held.end
        if held.stop_s < float("inf"):
            at = worker.position(max(held.stop_s, self.now_s))
            end = min(at - at % QUANTUM + QUANTUM, held.end)
        when_s = worker.speed.when(held.begun_s, end - held.first)
        self._at(max(when_s, self.now_s), lambda: self._stop(worker, version, end))

    def _stop(self, worker: Worker, version: int, end: int) -> None:
        if version != worker.version:
            return
        held = worker.queue.pop(0)
        worker.version += 1
        worker.last_s = self.now_s
        self._tell_daemon(lambda: self._done(worker, held, end))
        if worker.queue:
            worker.queue[0].sent_s = self.now_s
            self._begin(worker)

    def _report(self, worker: Worker, held: Held) -> None:
        if worker.queue[:1] != [held]:
            return
        reached = worker.position(self.now_s)
        if reached > held.start:
            self._tell_daemon(lambda: self._reported(worker, held, reached))
        self._at(self.now_s + LEASE_REPORT_S, lambda: self._report(worker, held))

    def _reported(self, worker: Worker, held: Held, reached: int) -> None:
        if worker.queue[:1] != [held] or reached <= held.start:
            return
        self._account(held, reached, 0.0)
        held.start, held.sent_s = reached, self.now_s
        turn = min((user for user, jobs in self._jobs.items() if jobs), key=self.had.__getitem__)
        if turn != held.job.user and any(job.waiting for job in self._jobs[turn]):
            self._recall(worker)

    # -- answers ------------------------------------------------------------------------

    def _account(self, held: Held, reached: int, charged_s: float) -> None:
        positions = reached - held.start
        held.job.done += positions
        self.used[held.job.user] += positions / RATE
        self.had[held.job.user] += positions / RATE - charged_s

    def _done(self, worker: Worker, held: Held, reached: int) -> None:
        job = held.job
        self._account(held, reached, held.charged_s)
        took_s = self.now_s - held.sent_s
        rate = (reached - held.start) / max(took_s, 1e-6)
        if reached == held.end and rate:
            job.rate = 0.5 * (job.rate + rate) if job.rate else rate
        if reached < held.end:
            job.waiting.append([reached, held.end, held.nid])
        job.held[worker].remove(held)
        if not job.held[worker]:
            del job.held[worker]
        if job.done == job.total:
            self._end(job)
        if worker.queue:
            if job.waiting and job is worker.job:
                self._give(worker, job)
            return
        self._idle[worker] = None
        self._pump()

    def _end(self, job: Job) -> None:
        self._jobs[job.user].remove(job)
        del self._active[job]
        self._unended -= 1
        self._of_user[job.user] -= 1
        self.end_s = self.now_s
        if not self._of_user[job.user] and not self.fair_at:
            self.fair_at = dict(self.used)
