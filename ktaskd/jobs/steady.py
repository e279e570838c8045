"""Detects sources that change while a job reads them, for a warning or the error of the job.

Several workers read a source that has a role, so it is checked here, at the first chunk and after the
last. An item is checked by the worker that reads it. Only the length and the times of a file are read,
which cannot hang for a vetted file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.functions.failures import SOURCE_CHANGED
from ktaskd.host.files.descriptors import read_stamp
from ktaskd.model.checked import CheckedJob
from ktaskd.model.function import Access
from ktaskd.model.job import JobError, JobWarning
from ktaskd.model.limits import WARNINGS_MAX
from ktaskd.model.source import Stamp

Json = dict[str, Any]


class Watched:
    """The sources of a job at its start, and the warnings about those that changed.

    Attributes:
        warnings: the first of them.
        omitted: how many more there were.
    """

    __slots__ = ("_stamps", "omitted", "warnings")

    def __init__(self) -> None:
        """Start without sources."""
        self.warnings: list[JobWarning] = []
        self.omitted = 0
        self._stamps: dict[str, Stamp] = {}

    def begin(self, checked: CheckedJob, sources: Mapping[str, HeldSource]) -> None:
        """Record the length and the times of the sources that the job only reads."""
        if not checked.declaration.steady:
            return
        for role in _read_only(checked, sources):
            self._stamps[role] = read_stamp(sources[role].fd)
        first = checked.declaration.sources[0].role
        if first in self._stamps and checked.whole and checked.position_bytes == 1:
            # The length from which the positions were counted.
            known = self._stamps[first]
            self._stamps[first] = Stamp(checked.span[1], known.mtime_ns, known.ctime_ns)

    def look(self, checked: CheckedJob, sources: Mapping[str, HeldSource]) -> JobError | None:
        """Record changes since then, once; return the error if the job asked to fail because of a change."""
        stamps, self._stamps = self._stamps, {}
        error = None
        for role, before in stamps.items():
            difference = before.difference(read_stamp(sources[role].fd))
            if difference:
                self._add(warning := _warning(difference, role))
                error = error or JobError(SOURCE_CHANGED, warning.message)
        return error if checked.arg.get("changed") == "fail" else None

    def note_items(self, checked: CheckedJob, start: int, results: Sequence[Json], *, by_role: bool) -> None:
        """Record which items, from `start` on, changed while their worker read them.

        Args:
            by_role: the job has one whole file, given by its role and not as an item.
        """
        if not checked.declaration.steady:
            return
        for item, result in enumerate(results, start):
            if isinstance(difference := result.get("changed"), str):
                role = checked.declaration.sources[0].role if by_role else ""
                self._add(_warning(difference, role, None if by_role else item))

    def _add(self, warning: JobWarning) -> None:
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(warning)
        else:
            self.omitted += 1


def _read_only(checked: CheckedJob, sources: Mapping[str, HeldSource]) -> Iterable[str]:
    """Return the roles that the job only reads, without files that it writes in another role."""
    roles = [role for role in checked.declaration.sources if role.role in sources]
    facts = {role.role: sources[role.role].facts for role in roles}
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
