"""Gives leases their size and their time, and shortens them for other workers.

`planner.leases` decides; this moves the ends and keeps the books of the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from ktaskd.jobs.crew import HeldChunk
from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.model.limits import CHUNK_TIME_DETACHED_S, CHUNK_TIME_TARGET_S, LEASE_REPORT_S
from ktaskd.planner.leases import TAIL_S, Grain, Rest, choose, cut_of, share


class Leases:
    """The leases of all jobs; their books are in the jobs.

    Args:
        workers_of: how many workers a job may have now.
        has_free: whether a node has a free helper for the ranges of that node.
        alone: whether no other job wants workers, and helpers may work all of the time.
    """

    def __init__(
        self,
        workers_of: Callable[[Job], int],
        has_free: Callable[[int], bool],
        alone: Callable[[Job], bool],
    ) -> None:
        """Needs the running loop, for its clock."""
        self._workers_of, self._has_free, self._alone = workers_of, has_free, alone
        self._now = asyncio.get_running_loop().time
        self._tails: WeakKeyDictionary[Job, float] = WeakKeyDictionary()
        """Until when the leases of a job need no look, since none could be divided."""

    def size(self, job: Job) -> int:
        """Return how many positions the next lease of a job should have, which is given then."""
        self._tails.pop(job, None)
        busy = sum(bool(chunks) for chunks in job.crew.held.values())
        return share(job.left, self._workers_of(job) - busy, job.plan.min_chunk)

    def slice_s(self, worker: Worker, job: Job) -> float:
        """Return the time after which a worker has to give the rest of a lease back; 0 = no limit."""
        if self._alone(job) and not (worker.is_lead and job.caller.cpu_quota):
            return 0.0
        return CHUNK_TIME_TARGET_S if job.waited else CHUNK_TIME_DETACHED_S

    @staticmethod
    def cost_s(likely_s: float, slice_s: float) -> float:
        """Return the CPU seconds that are charged in advance, for a lease that may take `likely_s`."""
        return min(likely_s, slice_s or LEASE_REPORT_S)

    def may_divide(self, job: Job, nid: int, *, lead: bool) -> bool:
        """Whether another worker, of this node, could get a part of a lease of the job."""
        if not job.has_leases or sum(map(bool, job.crew.held.values())) >= job.threads_paying:
            return False
        return self._can_cut(job, nid, lead=lead)

    def is_divisible(self, job: Job) -> bool:
        """Whether a worker could get a part of a lease of the job, once the job has one worker less."""
        return job.has_leases and self._can_cut(job, job.owner.nid, lead=True)

    def divide(self, job: Job, nid: int, *, lead: bool) -> bool:
        """Take half of the largest rest for a worker of this node; return whether something waits now."""
        return any(self._shorten(job, held, cut) for held, cut in self._cuts(job, nid, lead=lead))

    def withdraw(self, worker: Worker, job: Job) -> bool:
        """Take everything that a worker has not claimed; return whether something waits now."""
        held = next((held for held in job.crew.leases if held.worker is worker), None)
        return held is not None and self._shorten(job, held, max(worker.claim, held.chunk.start))

    def _shorten(self, job: Job, held: HeldChunk, end: int) -> bool:
        if end >= held.chunk.end:
            return False
        try:
            end = held.worker.shorten(end)
        except OSError:
            held.is_fixed = True  # the kernel cannot order the accesses, and will not the next time
            return False
        if not held.chunk.start <= end < held.chunk.end:
            return False  # it has done the rest meanwhile
        held.chunk = job.positions.shorten(held.chunk, end)
        return True

    def _can_cut(self, job: Job, nid: int, *, lead: bool) -> bool:
        """Whether any lease can be divided; looks no further than the first that can."""
        if self._now() < self._tails.get(job, 0.0):
            return False
        grain, leases = _grain(job), self._within_reach(job, nid, lead=lead)
        can = any(cut_of(self._rest(held), grain) is not None for held in leases)
        if lead and not can:
            self._tails[job] = self._now() + TAIL_S
        return can

    def _cuts(self, job: Job, nid: int, *, lead: bool) -> Iterator[tuple[HeldChunk, int]]:
        """Yield the leases that can be divided for a worker, each with its new end."""
        leases = list(self._within_reach(job, nid, lead=lead))
        rests = ((i, self._rest(held)) for i, held in enumerate(leases))
        return ((leases[i], cut) for i, cut in choose(rests, _grain(job), nid))

    def _within_reach(self, job: Job, nid: int, *, lead: bool) -> Iterator[HeldChunk]:
        return (held for held in job.crew.leases if self._may_have(job, held, nid, lead=lead))

    def _may_have(self, job: Job, held: HeldChunk, nid: int, *, lead: bool) -> bool:
        """Whether a worker of a node may get positions of this lease, as `Cursor.take` would decide."""
        if lead or held.chunk.nid in (nid, -1):
            return True
        return not (job.plan.parts[held.chunk.part_i].only or self._has_free(held.chunk.nid))

    def _rest(self, held: HeldChunk) -> Rest:
        chunk, (_, position) = held.chunk, held.worker.position
        claim = min(max(held.worker.claim, chunk.start), chunk.end)
        took_s = self._now() - held.sent_s
        # Before the worker begins, its position is that of its last lease.
        done = position - chunk.start if chunk.start <= position <= held.worker.claim else 0
        rate = done / took_s if took_s > 0 else 0.0
        return Rest(claim, chunk.end, chunk.nid, rate)


def _grain(job: Job) -> Grain:
    return Grain(job.plan.min_chunk, job.plan.align, job.checked.declaration.quantum)
