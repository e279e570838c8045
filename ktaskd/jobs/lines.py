"""Who is next: users by what they have had, jobs of one user in order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ktaskd.jobs.job import Job


class Shares:
    """How much CPU time each uid has had, for as long as it matters.

    Start-time fairness: a uid that comes back after a pause counts as having had
    as much as the one that had least meanwhile, so that nobody saves up, and
    nobody gains by many short jobs.
    """

    def __init__(self) -> None:
        """Nobody has had anything."""
        self._had_s: dict[int, float] = {}
        self._active: Counter[int] = Counter()

    def enter(self, uid: int) -> None:
        """One more job of this uid wants workers."""
        if not self._active[uid]:
            floor = min((self._had_s[other] for other in self._active if other != uid), default=0.0)
            self._had_s[uid] = max(self._had_s.get(uid, 0.0), floor)
        self._active[uid] += 1

    def leave(self, uid: int) -> None:
        """One job of this uid less wants workers."""
        self._active[uid] -= 1
        if not self._active[uid]:
            del self._active[uid]
        if not self._active:
            self._had_s.clear()
        else:
            floor = min(self._had_s[other] for other in self._active)
            gone = [
                other for other, had_s in self._had_s.items() if had_s <= floor and other not in self._active
            ]
            for other in gone:
                del self._had_s[other]

    def charge(self, uid: int, seconds: float) -> None:
        """The uid had so much CPU time; negative = an estimate was too high."""
        if uid in self._had_s:
            self._had_s[uid] += seconds

    def had(self, uid: int) -> float:
        """Seconds, comparable between uids that want workers now."""
        return self._had_s.get(uid, 0.0)


class Line:
    """Jobs in the order they were accepted; cheap where they arrive in order."""

    def __init__(self) -> None:
        """Start empty."""
        self._jobs: dict[int, Job] = {}

    def put(self, job: Job, wanted: bool) -> None:
        """Have the job in the line, or not."""
        if not wanted:
            self._jobs.pop(job.jno, None)
            return
        if job.jno in self._jobs:
            return
        in_order = not self._jobs or job.jno > next(reversed(self._jobs))
        self._jobs[job.jno] = job
        if not in_order:
            self._jobs = dict(sorted(self._jobs.items()))

    @property
    def first(self) -> Job | None:
        """The job that waits longest."""
        return next(iter(self._jobs.values()), None)

    def __iter__(self) -> Iterator[Job]:
        """Oldest first. The line must not be changed meanwhile."""
        return iter(self._jobs.values())

    def __len__(self) -> int:
        """Jobs in it."""
        return len(self._jobs)


class Lines:
    """One line for each uid."""

    def __init__(self, shares: Shares) -> None:
        """Start empty; `shares` says whose line is next."""
        self._shares = shares
        self._of: dict[int, Line] = {}

    def put(self, job: Job, wanted: bool) -> None:
        """Have the job in its owner's line, or not."""
        uid = job.owner.uid
        line = self._of.get(uid)
        if line is None:
            if not wanted:
                return
            line = self._of[uid] = Line()
        line.put(job, wanted)
        if not line:
            del self._of[uid]

    @property
    def first(self) -> Job | None:
        """The oldest job of the uid that had least."""
        if not self._of:
            return None
        return self._of[min(self._of, key=self._shares.had)].first

    def firsts(self) -> list[Job]:
        """The oldest job of each uid, the uid that had least first."""
        lines = [self._of[uid] for uid in sorted(self._of, key=self._shares.had)]
        return [line.first for line in lines if line.first is not None]

    def __len__(self) -> int:
        """Jobs in all lines."""
        return sum(map(len, self._of.values()))

    def __iter__(self) -> Iterator[Job]:
        """Jobs in turn: the uid that had least first. Not to be changed meanwhile."""
        for uid in sorted(self._of, key=self._shares.had):
            yield from self._of[uid]

    def __bool__(self) -> bool:
        """Whether any job is in it; cheaper than the length."""
        return bool(self._of)
