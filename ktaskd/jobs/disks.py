"""How many workers are at a disk at one time.

A disk that turns is slower the more read from it at once: the best number is
one, and ten are a third slower than that. Leads are never held back, since they
stand for callers who would read by themselves; but they count.

Source: the measurements of issue 10161 of BorgBackup
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from ktaskd.jobs.job import Job
from ktaskd.pool.link import Worker


class Disks:
    """Who is at the disks that have a limit, and who waits for one."""

    def __init__(self) -> None:
        """Nobody is."""
        self._at: Counter[str] = Counter()
        self._wanting: dict[str, dict[Job, None]] = {}

    def enter(self, job: Job) -> None:
        """The job has positions that nobody holds."""
        for name in job.disks:
            self._wanting.setdefault(name, {})[job] = None

    def forget(self, job: Job) -> None:
        """It has none any more."""
        for name in job.disks:
            jobs = self._wanting.get(name, {})
            jobs.pop(job, None)
            if not jobs:
                self._wanting.pop(name, None)

    def join(self, job: Job) -> list[Job]:
        """A worker begins with the job; returns the jobs for which that changes something, this one first."""
        self._at.update(job.disks.keys())
        return self._concerned(job, 0)

    def leave(self, job: Job) -> list[Job]:
        """A worker has left the job; returns what `join` does."""
        self._at.subtract(job.disks.keys())
        return self._concerned(job, -1)

    def _concerned(self, job: Job, change: int) -> list[Job]:
        full = [name for name, most in job.disks.items() if self._at[name] == most + change]
        others = (other for name in full for other in self._wanting.get(name, ()))
        return list(dict.fromkeys([job, *others]))

    def full(self, job: Job) -> str:
        """Name of a disk of the job where no worker more may be; "" = there is room."""
        return next((name for name, most in job.disks.items() if self._at[name] >= most), "")

    def over(self, job: Job) -> str:
        """Name of a disk of the job at which there are too many, since a lead came; "" = none."""
        return next((name for name, most in job.disks.items() if self._at[name] > most), "")

    def is_anothers_turn(self, job: Job, had: Callable[[int], float]) -> bool:
        """Whether a job of a user who has had less waits for a disk of this one."""
        uid, had_s = job.owner.uid, had(job.owner.uid)
        others = (other.owner.uid for name in job.disks for other in self._wanting.get(name, ()))
        return any(other != uid and had(other) < had_s for other in others)

    def make_room(self, job: Job, job_of: Mapping[Worker, Job]) -> None:
        """A lead has come to the job; where its disk had all the workers it may have, one helper goes."""
        name = self.over(job)
        helpers = (worker for worker, at in job_of.items() if not worker.is_lead and name in at.disks)
        if name and (helper := next(helpers, None)) is not None:
            helper.recall()
