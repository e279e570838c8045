"""Sources that change while a job reads them: warnings of the job, or its error.

Sources by role are looked at here, since several workers read them, at the first chunk and after the
last one. Items are looked at by the worker that reads each. All that is asked of a file is its
length and its times, which cannot hang for what was vetted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ktaskd.functions.failures import SOURCE_CHANGED
from ktaskd.host.files.descriptors import read_stamp
from ktaskd.model.function import Access
from ktaskd.model.job import JobError, JobWarning
from ktaskd.model.limits import WARNINGS_MAX
from ktaskd.model.source import Stamp

if TYPE_CHECKING:
    from ktaskd.jobs.job import Job

Json = dict[str, Any]


class Watched:
    """What a job found its sources to be, and what it has to say of them.

    Args:
        told: the first warnings.
        omitted: how many more there were.
    """

    __slots__ = ("_stamps", "omitted", "told")

    def __init__(self) -> None:
        """Nothing was looked at yet."""
        self.told: list[JobWarning] = []
        self.omitted = 0
        self._stamps: dict[str, Stamp] = {}

    def begin(self, job: Job) -> None:
        """Remember how the sources are that it reads for its result."""
        if not job.checked.declaration.steady:
            return
        for role in _read_only(job):
            self._stamps[role] = read_stamp(job.sources[role].fd)
        first = job.checked.declaration.sources[0].role
        if first in self._stamps and job.checked.whole and job.checked.position_bytes == 1:
            # So long it was when its positions were counted.
            known = self._stamps[first]
            self._stamps[first] = Stamp(job.checked.span[1], known.mtime_ns, known.ctime_ns)

    def look(self, job: Job) -> JobError | None:
        """Note what has changed since then, once; the error where the job asked to fail for it."""
        stamps, self._stamps = self._stamps, {}
        error = None
        for role, before in stamps.items():
            difference = before.difference(read_stamp(job.sources[role].fd))
            if difference:
                self._add(warning := _warning(difference, role))
                error = error or JobError(SOURCE_CHANGED, warning.message)
        return error if job.checked.arg.get("changed") == "fail" else None

    def note_items(self, job: Job, start: int, results: Sequence[Json]) -> None:
        """Note which items, from `start` on, their worker saw changing."""
        if not job.checked.declaration.steady:
            return
        for item, result in enumerate(results, start):
            if isinstance(difference := result.get("changed"), str):
                # What was given by its role is the one item of a function of whole files.
                by_role = not job.spec.items
                role = job.checked.declaration.sources[0].role if by_role else ""
                self._add(_warning(difference, role, None if by_role else item))

    def _add(self, warning: JobWarning) -> None:
        if len(self.told) < WARNINGS_MAX:
            self.told.append(warning)
        else:
            self.omitted += 1


def _read_only(job: Job) -> Iterable[str]:
    """Roles that it only reads, of files that it does not write by another role."""
    roles = [role for role in job.checked.declaration.sources if role.role in job.sources]
    facts = {role.role: job.sources[role.role].facts for role in roles}
    written = {
        (facts[role.role].device, facts[role.role].inode) for role in roles if Access.WRITE in role.access
    }
    for role in roles:
        known = facts[role.role]
        if role.access is Access.READ and (known.device, known.inode) not in written:
            yield role.role


def _warning(difference: str, role: str, item: int | None = None) -> JobWarning:
    name = f'source "{role}"' if item is None else f"item {item}"
    return JobWarning(SOURCE_CHANGED, f"{name}: changed while it was read: {difference}", role, item)
