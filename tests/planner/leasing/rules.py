"""The two rules: leases as the product shares them out, and the former rule of chunks of a certain time.

The former rule is a copy of what `jobs.job.Job.next_size` and `jobs.feed.Feeder` did; the other one calls
`ktaskd.planner.leases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ktaskd.planner.leases import TAIL_S, Grain, Rest, choose, cut_of, share
from tests.planner.leasing.books import MIN_CHUNK, PROBE, QUANTUM, Held, Job, Worker

WAITED_S, DETACHED_S, ALONE_S, SHORT_S = 0.1, 0.2, 2.0, 0.002
IN_FLIGHT_S, IN_FLIGHT_MAX = 0.0005, 8
GRAIN = Grain(MIN_CHUNK, 1, QUANTUM)


class Rule(Protocol):
    """Decides what a worker gets."""

    name: str
    looks: int
    """How many leases were looked at so far."""
    reports: bool
    """Whether workers report what they have done while they go on."""

    def sizes(self, job: Job, worker: Worker, workers: int, *, alone: bool) -> list[int]:
        """Return the positions of the pieces that a worker gets now."""

    def slice_s(self, job: Job, *, alone: bool) -> float:
        """Return the time after which a piece is given back; 0 = no limit."""

    def is_patient(self, held: Held) -> bool:
        """Whether a piece is recalled when another job arrives."""

    def may_divide(self, job: Job, now_s: float) -> bool:
        """Whether somebody's piece could end earlier for another worker."""

    def divide(self, job: Job, worker: Worker, now_s: float) -> tuple[Worker, int] | None:
        """Choose whose piece ends earlier for a worker, and where; None = nobody's."""


class Leases:
    """A share for each worker, shortened for those that are done."""

    name, reports = "leases", True

    def __init__(self) -> None:
        self.looks = 0

    def sizes(self, job: Job, worker: Worker, workers: int, *, alone: bool) -> list[int]:
        job.tail_s = 0.0
        return [share(job.left, min(workers, job.threads) - len(job.held), MIN_CHUNK)]

    def slice_s(self, job: Job, *, alone: bool) -> float:
        return 0.0 if alone else WAITED_S if job.waited else DETACHED_S

    def is_patient(self, held: Held) -> bool:
        return not held.slice_s

    def may_divide(self, job: Job, now_s: float) -> bool:
        if now_s < job.tail_s:
            return False
        can = any(cut_of(self._rest(other, now_s), GRAIN) is not None for other in _holders(job))
        if not can:
            job.tail_s = now_s + TAIL_S
        return can

    def divide(self, job: Job, worker: Worker, now_s: float) -> tuple[Worker, int] | None:
        holders = list(_holders(job))
        rests = ((i, self._rest(other, now_s)) for i, other in enumerate(holders))
        return next(((holders[i], cut) for i, cut in choose(rests, GRAIN, worker.nid)), None)

    def _rest(self, worker: Worker, now_s: float) -> Rest:
        self.looks += 1
        held = worker.queue[0]
        took_s = now_s - held.sent_s
        rate = (worker.position(now_s) - held.start) / took_s if took_s > 0 else 0.0
        return Rest(worker.claim(now_s), held.end, held.nid, rate)


def _holders(job: Job) -> Iterator[Worker]:
    """Workers with a lease that they have not ended."""
    return (other for other, queue in job.held.items() if other.queue[:1] == queue[:1])


class Chunks:
    """A probe, and then chunks of a time, smaller towards the end."""

    name, reports, looks = "chunks", False, 0

    def sizes(self, job: Job, worker: Worker, workers: int, *, alone: bool) -> list[int]:
        size = self._size(job, workers, alone=alone)
        depth = self._depth(job, size)
        held = len(job.held.get(worker, ()))
        return [size] * (depth - held) if held <= depth // 2 else []

    @staticmethod
    def _size(job: Job, workers: int, *, alone: bool) -> int:
        threads = min(workers, job.threads)
        most = max(job.total // (4 * threads), MIN_CHUNK)
        if not job.rate:
            return min(PROBE, most)
        target_s = WAITED_S if job.waited else ALONE_S if alone else DETACHED_S
        part = -(-job.left // (2 * threads))
        wanted = max(min(int(job.rate * target_s), part), int(job.rate * SHORT_S))
        return min(max(wanted, MIN_CHUNK), most)

    @staticmethod
    def _depth(job: Job, size: int) -> int:
        if not job.rate or size / job.rate > SHORT_S:
            return 1
        wanted = min(max(int(IN_FLIGHT_S * job.rate / size), 2), IN_FLIGHT_MAX)
        return max(min(wanted, job.left // (2 * size * job.threads)), 1)

    def slice_s(self, job: Job, *, alone: bool) -> float:
        return 0.0

    def is_patient(self, held: Held) -> bool:
        return not held.job.waited

    def may_divide(self, job: Job, now_s: float) -> bool:
        return False

    def divide(self, job: Job, worker: Worker, now_s: float) -> tuple[Worker, int] | None:
        return None


RULES: tuple[Callable[[], Rule], ...] = (Chunks, Leases)
