"""Chooses the next job: users by the CPU time that they had, jobs of one user in order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ktaskd.jobs.job import Job

FIRST_CHUNK_S = 0.005
"""CPU seconds that a chunk is assumed to cost while nothing is known about its owner's chunks."""


class Shares:
    """The CPU time that each uid has had, kept as long as it makes a difference.

    Start-time fair queueing: a virtual clock stands at what the uid had that got a worker
    last. A uid that begins to wait counts as having had at least that much: a user gains
    nothing by a pause, by work that cannot use its share, or by many short jobs. A chunk is
    charged when it is sent, at an estimate, and corrected when it ends.

    Memory: at most twice the uids that wait, that hold workers, or that are
    ahead of the clock.
    """

    def __init__(self) -> None:
        """Start with no CPU time used."""
        self._had_s: dict[int, float] = {}
        self._waiting: Counter[int] = Counter()
        self._holding: Counter[int] = Counter()
        self._chunk_s: dict[int, float] = {}
        self._clock_s = 0.0
        self._sweep_at = 16

    def enter(self, uid: int) -> None:
        """Note that one more job of this uid waits for workers."""
        if not self._waiting[uid]:
            self._had_s[uid] = max(self._had_s.get(uid, 0.0), self._clock_s)
        self._waiting[uid] += 1

    def leave(self, uid: int) -> None:
        """Note that one job less of this uid waits for workers."""
        _less(self._waiting, uid)
        self._sweep()

    def hold(self, uid: int) -> None:
        """Note that the uid got one more worker in its turn."""
        self._had_s.setdefault(uid, self._clock_s)
        self._clock_s = max(self._clock_s, self._had_s[uid])
        self._holding[uid] += 1

    def let_go(self, uid: int, chunk_s: float = 0.0) -> None:
        """Note that the uid has one worker less than before.

        Args:
            chunk_s: CPU seconds that one chunk of the job cost; 0 = not known.
        """
        if chunk_s:
            known_s = self._chunk_s.get(uid, chunk_s)
            self._chunk_s[uid] = 0.5 * (known_s + chunk_s)
        _less(self._holding, uid)
        self._sweep()

    def likely_s(self, uid: int) -> float:
        """Return the expected CPU seconds of a chunk of a new job of this uid."""
        return self._chunk_s.get(uid, FIRST_CHUNK_S)

    def charge(self, uid: int, seconds: float) -> None:
        """Add CPU time that the uid had; negative where an estimate was too high."""
        if uid in self._had_s:
            self._had_s[uid] += seconds

    def had(self, uid: int) -> float:
        """Return the CPU seconds that the uid had, comparable between uids that want workers now."""
        return self._had_s.get(uid, 0.0)

    def __len__(self) -> int:
        """Return the number of remembered uids."""
        return len(self._had_s)

    def _sweep(self) -> None:
        """From time to time, forget uids if that makes no difference to them."""
        if not self._waiting and not self._holding:
            self._had_s.clear()
            self._chunk_s.clear()
            self._clock_s = 0.0
        elif len(self._had_s) >= self._sweep_at:
            for uid, had_s in tuple(self._had_s.items()):
                if had_s <= self._clock_s and uid not in self._waiting and uid not in self._holding:
                    del self._had_s[uid]
                    self._chunk_s.pop(uid, None)
            self._sweep_at = max(2 * len(self._had_s), 16)


def _less(counter: Counter[int], uid: int) -> None:
    counter[uid] -= 1
    if not counter[uid]:
        del counter[uid]


class UserQueue:
    """Jobs of one user in the order in which they were accepted.

    Cheap if jobs arrive in order or many at the same time, since the queue is sorted only when it
    is read.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._jobs: dict[int, Job] = {}
        self._is_sorted = True

    def put(self, job: Job, wanted: bool) -> None:
        """Add the job to the queue, or remove it if it no longer belongs there."""
        if not wanted:
            self._jobs.pop(job.jno, None)
            return
        if job.jno in self._jobs:
            return
        self._is_sorted = self._is_sorted and (not self._jobs or job.jno > next(reversed(self._jobs)))
        self._jobs[job.jno] = job

    def _sorted(self) -> dict[int, Job]:
        if not self._is_sorted:
            self._jobs, self._is_sorted = dict(sorted(self._jobs.items())), True
        return self._jobs

    @property
    def first(self) -> Job | None:
        """Return the job that has waited longest."""
        return next(iter(self._sorted().values()), None)

    def __iter__(self) -> Iterator[Job]:
        """Iterate over the jobs, oldest first. The queue must not be changed meanwhile."""
        return iter(self._sorted().values())

    def __len__(self) -> int:
        """Return the number of jobs in the queue."""
        return len(self._jobs)


class FairQueue:
    """One queue for each uid; the uid that had the least CPU time comes first."""

    def __init__(self, shares: Shares) -> None:
        """Start empty; `shares` knows how much each uid had."""
        self._shares = shares
        self._of: dict[int, UserQueue] = {}

    def put(self, job: Job, wanted: bool) -> None:
        """Add the job to its owner's queue, or remove it if it no longer belongs there."""
        uid = job.owner.uid
        queue = self._of.get(uid)
        if queue is None:
            if not wanted:
                return
            queue = self._of[uid] = UserQueue()
        queue.put(job, wanted)
        if not queue:
            del self._of[uid]

    @property
    def first(self) -> Job | None:
        """Return the oldest job of the uid that had the least CPU time."""
        if not self._of:
            return None
        return self._of[min(self._of, key=self._shares.had)].first

    def is_before(self, job: Job, *, steps: bool = False) -> bool:
        """Whether the first job of this queue comes before another chunk of `job`.

        Args:
            steps: this is the queue of steps, which come before all chunks of the same user.
        """
        rival = self.first
        if rival is None:
            return False
        uid = job.owner.uid
        if rival.owner.uid != uid:
            return self._shares.had(rival.owner.uid) < self._shares.had(uid)
        return steps or rival.jno < job.jno

    def firsts(self) -> list[Job]:
        """Return the oldest job of each uid, the uid that had the least CPU time first."""
        queues = [self._of[uid] for uid in sorted(self._of, key=self._shares.had)]
        return [queue.first for queue in queues if queue.first is not None]

    def __len__(self) -> int:
        """Return the number of jobs of all users."""
        return sum(map(len, self._of.values()))

    def __iter__(self) -> Iterator[Job]:
        """Iterate over the jobs, users in turn. The queue must not be changed meanwhile."""
        for uid in sorted(self._of, key=self._shares.had):
            yield from self._of[uid]

    def __bool__(self) -> bool:
        """Whether the queue has any job; cheaper than its length."""
        return bool(self._of)
