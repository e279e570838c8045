"""Limits how many workers use a disk at the same time.

A rotating disk gets slower with each further reader: one reader is best, and ten are a third
slower. Leads count against the limit but are never held back, since their callers would
otherwise read the disk themselves.

Source: the measurements of issue 10161 of BorgBackup
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker


class Disks:
    """The workers that use disks with a limit, and the jobs that wait for such a disk."""

    def __init__(self) -> None:
        """Start with all disks free."""
        self._at: Counter[str] = Counter()
        self._wanting: dict[str, dict[Job, None]] = {}

    def enter(self, job: Job) -> None:
        """Note that the job has positions that no worker holds."""
        for name in job.disks:
            self._wanting.setdefault(name, {})[job] = None

    def forget(self, job: Job) -> None:
        """Note that the job has no such positions any more."""
        for name in job.disks:
            jobs = self._wanting.get(name, {})
            jobs.pop(job, None)
            if not jobs:
                self._wanting.pop(name, None)

    def join(self, job: Job) -> list[Job]:
        """Note that a worker begins with the job; return the jobs whose queues may change, this job first."""
        self._at.update(job.disks.keys())
        return self._concerned(job, 0)

    def leave(self, job: Job) -> list[Job]:
        """Note that a worker has left the job; return jobs as `join` does."""
        self._at.subtract(job.disks.keys())
        return self._concerned(job, -1)

    def _concerned(self, job: Job, change: int) -> list[Job]:
        full = [name for name, most in job.disks.items() if self._at[name] == most + change]
        others = (other for name in full for other in self._wanting.get(name, ()))
        return list(dict.fromkeys([job, *others]))

    def full(self, job: Job) -> str:
        """Return the name of a disk of the job that has reached its limit; "" = none has."""
        return next((name for name, most in job.disks.items() if self._at[name] >= most), "")

    def over(self, job: Job) -> str:
        """Return the name of a disk of the job that is over its limit because of a lead; "" = none is."""
        return next((name for name, most in job.disks.items() if self._at[name] > most), "")

    def is_anothers_turn(self, job: Job, had: Callable[[int], float]) -> bool:
        """Whether a job of a user with less CPU time waits for a disk of this job."""
        uid, had_s = job.owner.uid, had(job.owner.uid)
        others = (other.owner.uid for name in job.disks for other in self._wanting.get(name, ()))
        return any(other != uid and had(other) < had_s for other in others)

    def make_room(self, job: Job, job_of: Mapping[Worker, Job]) -> None:
        """Recall a helper from the disk of a job that has got a lead, if that disk is over its limit."""
        name = self.over(job)
        helpers = (worker for worker, at in job_of.items() if not worker.is_lead and name in at.disks)
        if name and (helper := next(helpers, None)) is not None:
            helper.recall()
