"""Refuses jobs that would allocate more memory in their sources than the machine has.

Pages of memfds, tmpfs and hugetlbfs live as long as their file, and the kernel cannot reclaim
them. A job that allocated more than there is would make the kernel kill some program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.host.memory.freemem import read_free, read_free_huge
from ktaskd.host.root import HostRoot
from ktaskd.jobs.job import Job
from ktaskd.model.checked import CheckedJob
from ktaskd.model.errors import MemoryShort
from ktaskd.model.function import Access
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.model.spans import Span, SpanSet

RESERVE_PARTS = 32
"""One in this many bytes of the machine's memory is never given to jobs."""

SMALL_BYTES = 1 << 20
"""Allocations smaller than this are not checked."""

_BLOCK = 512
"""Unit of st_blocks. Source: stat(2)"""

_COPIES = frozenset({"file.copy", "mem.copy"})
"""Functions whose target is written at the positions of the source, and whose holes stay holes."""

_File = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Need:
    """The least number of bytes that a job would allocate in one source.

    Args:
        role: of the source in the request.
        file: device and inode.
        nbytes: of the pages that it writes, less all pages that the file has already, anywhere.
    """

    role: str
    file: _File
    kind: SourceKind
    page_size: int
    nbytes: int


class MemoryRoom:
    """Refuses jobs that would allocate too much, given what accepted jobs may still allocate."""

    def __init__(self, root: HostRoot) -> None:
        """Start without jobs. `root` is where the machine's memory is read."""
        self._root = root
        self._held: dict[Job, list[Need]] = {}

    def check(self, needs: Sequence[Need]) -> None:
        """Raise MemoryShort unless there is memory for each need in addition to the accepted jobs'."""
        for need in needs:
            if need.nbytes >= SMALL_BYTES:
                self._check(need)

    def hold(self, job: Job, needs: Sequence[Need]) -> None:
        """Count the large needs of a job until it has ended."""
        large = [need for need in needs if need.nbytes >= SMALL_BYTES]
        if not large:
            return

        self._held[job] = large
        job.watch(self._on_change)

    def _on_change(self, job: Job) -> None:
        if job.state.ended:
            job.unwatch(self._on_change)
            self._held.pop(job, None)

    def _check(self, need: Need) -> None:
        promised = self._promised(need)
        if need.kind is SourceKind.HUGE:
            free = read_free_huge(self._root, need.page_size)
            what = f"huge pages of {need.page_size} bytes"
            advice = "more of them (nr_hugepages)"
        else:
            memory = read_free(self._root)
            free = None if memory is None else memory.available - memory.total // RESERVE_PARTS
            what = f"memory (MemAvailable less 1/{RESERVE_PARTS} of the machine's, without swap)"
            advice = "a file on a disk"
        if free is None or need.nbytes + promised <= free:
            return
        others = f", of which {promised} are promised to other jobs" if promised else ""
        raise MemoryShort(
            f'source "{need.role}": the job would allocate {need.nbytes} bytes, and there are '
            f"{max(free, 0)} bytes of {what}{others}; use smaller ranges or {advice}, or free some",
            field=f'spec.sources["{need.role}"]',
            needed=str(need.nbytes),
            available=str(max(free - promised, 0)),
        )

    def _promised(self, need: Need) -> int:
        """Return the bytes of this kind that accepted jobs may still allocate. In one file they share."""
        left: dict[_File, int] = {}
        for job, held in ((job, held) for job, needs in self._held.items() for held in needs):
            if (held.kind, held.page_size) == (need.kind, need.page_size) and held.file != need.file:
                left[held.file] = max(left.get(held.file, 0), _left(job, held))
        return sum(left.values())


def _left(job: Job, need: Need) -> int:
    """Return the bytes that the job has not allocated yet, judged by its progress."""
    total = job.plan.total
    return need.nbytes if not total else need.nbytes * max(total - job.completed, 0) // total


def needs_of(checked: CheckedJob, sources: Mapping[str, HeldSource]) -> list[Need]:
    """Return the bytes that a job would allocate in memory, for each source that it writes.

    The estimate is never too high: the daemon does not ask where a file has its pages, since that
    takes long for a large file. The output length of some functions is not known in advance; a
    worker that runs out of memory ends the job (`worker.memory_guard`).
    """
    declaration = checked.declaration
    if not declaration.allocates or checked.position_bytes != 1 or not declaration.sources:
        return []
    first = declaration.sources[0].role
    most: int | None = None
    if declaration.name in _COPIES and first in sources:
        most = os.fstat(sources[first].fd).st_blocks * _BLOCK
    written = [role.role for role in declaration.sources if Access.WRITE in role.access]
    if most is None:
        written = [role for role in written if role == first]
    needs = (_need(checked, role, sources[role], most) for role in written if role in sources)
    return [need for need in needs if need is not None]


def _need(checked: CheckedJob, role: str, source: HeldSource, most: int | None) -> Need | None:
    facts = source.facts
    if facts.kind is SourceKind.FILE:
        return None
    written = _pages(checked, facts).total
    has = os.fstat(source.fd).st_blocks * _BLOCK
    nbytes = written - has if most is None else min(written, most) - has
    file = (facts.device, facts.inode)
    return Need(role, file, facts.kind, facts.page_size, nbytes) if nbytes > 0 else None


def _pages(checked: CheckedJob, facts: SourceFacts) -> SpanSet:
    """Return the ranges, extended to whole pages."""
    page = facts.page_size
    return SpanSet(Span(r.start // page * page, -(-r.end // page) * page) for r in checked.ranges)
