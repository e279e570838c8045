"""How many workers are at a disk at the same time.

A disk that turns is slower the more read from it at once: the best number is
one, and ten are a third slower than that. Leads are never held back, since they
stand for callers who would read by themselves; but they count.

Source: the measurements of issue 10161 of BorgBackup
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker


class Disks:
    """The workers at disks that have a limit, and the jobs that wait for one."""

    def __init__(self) -> None:
        """Start with all disks free."""
        self._at: Counter[str] = Counter()
        self._wanting: dict[str, dict[Job, None]] = {}

    def enter(self, job: Job) -> None:
        """Note that the job has positions that no worker holds."""
        for name in job.disks:
            self._wanting.setdefault(name, {})[job] = None

    def forget(self, job: Job) -> None:
        """Note that it has none any more."""
        for name in job.disks:
            jobs = self._wanting.get(name, {})
            jobs.pop(job, None)
            if not jobs:
                self._wanting.pop(name, None)

    def join(self, job: Job) -> list[Job]:
        """Note that a worker begins with the job; returns the jobs that this concerns, the job first."""
        self._at.update(job.disks.keys())
        return self._concerned(job, 0)

    def leave(self, job: Job) -> list[Job]:
        """Note that a worker has left the job; returns what `join` does."""
        self._at.subtract(job.disks.keys())
        return self._concerned(job, -1)

    def _concerned(self, job: Job, change: int) -> list[Job]:
        full = [name for name, most in job.disks.items() if self._at[name] == most + change]
        others = (other for name in full for other in self._wanting.get(name, ()))
        return list(dict.fromkeys([job, *others]))

    def full(self, job: Job) -> str:
        """Name of a disk of the job that has reached its limit; "" = none has."""
        return next((name for name, most in job.disks.items() if self._at[name] >= most), "")

    def over(self, job: Job) -> str:
        """Name of a disk of the job that is over its limit, since a lead came; "" = none is."""
        return next((name for name, most in job.disks.items() if self._at[name] > most), "")

    def is_anothers_turn(self, job: Job, had: Callable[[int], float]) -> bool:
        """Whether a job of a user who has had less waits for a disk of this one."""
        uid, had_s = job.owner.uid, had(job.owner.uid)
        others = (other.owner.uid for name in job.disks for other in self._wanting.get(name, ()))
        return any(other != uid and had(other) < had_s for other in others)

    def make_room(self, job: Job, job_of: Mapping[Worker, Job]) -> None:
        """Recall a helper from the disk of a job that has got a lead, if that disk is over its limit."""
        name = self.over(job)
        helpers = (worker for worker, at in job_of.items() if not worker.is_lead and name in at.disks)
        if name and (helper := next(helpers, None)) is not None:
            helper.recall()
