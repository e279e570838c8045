"""How many workers are at a disk at one time.

A disk that turns is slower the more read from it at once: the best number is
one, and ten are a third slower than that. Leads are never held back, since they
stand for callers who would read by themselves; but they count.

Source: the measurements of issue 10161 of BorgBackup
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ktaskd.host.files.disk import Disk

if TYPE_CHECKING:
    from ktaskd.jobs.job import Job
    from ktaskd.pool.link import Worker


class NamedDisksInvalid(ValueError):
    """The list of named disks cannot be read."""


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """Most workers at one disk at one time, of all jobs; 0 = no limit.

    Args:
        rotating: of each disk that turns.
        other: of each disk that does not.
        named: of some disks, in place of those: "sda=2 nvme0n1=6".
    """

    rotating: int = 1
    other: int = 0
    named: str = ""


def parse_named(text: str) -> dict[str, int]:
    """The limits of named disks; raises NamedDisksInvalid."""
    limits = {}
    for word in text.split():
        name, _, count = word.partition("=")
        name = name.removeprefix("/dev/")
        if not name or "/" in name or not (count.isascii() and count.isdigit() and len(count) <= 9):
            raise NamedDisksInvalid(f'got "{word}", wanted NAME=COUNT as in "sda=2"')
        limits[name] = int(count)
    return limits


class DiskOf:
    """Finds the limit of the disk that a file lies on."""

    def __init__(self, limits: DiskLimits, read: Callable[[int], Disk | None]) -> None:
        """Read each device once: what a disk is does not change."""
        self._limits = limits
        self._named = parse_named(limits.named)
        self._read = read
        self._known: dict[int, Disk | None] = {}

    def limits(self, devices: set[int]) -> dict[str, int]:
        """By name of a disk that has one: the most workers at one time."""
        found = {}
        for device in devices:
            if device not in self._known:
                self._known[device] = self._read(device)
            disk = self._known[device]
            if disk is not None and (most := self._limit(disk)):
                found[disk.name] = most
        return found

    def _limit(self, disk: Disk) -> int:
        usual = self._limits.rotating if disk.rotating else self._limits.other
        return self._named.get(disk.name, usual)


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
