"""Jobs that faults hit, each with everything that is known about it beforehand."""

from __future__ import annotations

import fcntl
import os
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ktaskd.jobs.steps import Json
from ktaskd.model.function import Access
from ktaskd.model.job import JobSpec, RangeSpec, SourceRef
from ktaskd.model.spans import Span, SpanSet
from tests.fault.compare import UNDONE, first_difference
from tests.jobs.realjobs import MIB, UID, Memory, RealJobs
from tests.support.sources import facts_of

GUARD = 64 << 10
"""Bytes on both sides of the span that a job writes."""

NOISE = random.Random(5).randbytes(10 * MIB)

PAGE = 4096

CHUNK = 4 * MIB
"""Several quanta, so that a worker can be struck between two of them."""


LOG_SIZE = 1000
"""Positions of the jobs that count how often they touched each byte."""


@dataclass(frozen=True)
class StruckJob:
    """One job to run, and the expected content of its memory.

    Args:
        before: the bytes of `memory` before.
        after: the bytes of `memory` when the job has succeeded.
        result: its expected result; None = none.
        pages: the number of pages that it finds on any nodes; -1 = it reports none.
        counts: undoing does not restore the previous bytes, but adds to them.
    """

    spec: JobSpec
    memory: Memory | None = None
    before: bytes = b""
    after: bytes = b""
    result: Json | None = None
    pages: int = -1
    counts: bool = False

    def found(self, result: Json | None) -> bool:
        """Whether a job that succeeded has the expected result."""
        if self.pages < 0:
            return result == self.result
        assert result is not None
        told = sum(result["pages"].values()), result["pages_sampled"]
        return bool(told == (self.pages, self.pages))

    def wrong(self, dirty: Sequence[Span], *, succeeded: bool) -> str:
        """How the memory differs from the expected content; "" if it does not."""
        if self.memory is None:
            return ""
        content, wanted = self.memory.read(), self.after if succeeded else self.before
        if len(content) != len(wanted) and not dirty:
            return f"{len(content)} bytes long, wanted {len(wanted)}"
        if self.counts and not succeeded:
            content = bytes(0 if byte in UNDONE else byte for byte in content[:LOG_SIZE]) + content[LOG_SIZE:]
        return first_difference(content, wanted, [(span.start, span.end) for span in dirty])

    def changed(self) -> SpanSet:
        """The pages of the memory that have changed."""
        assert self.memory is not None
        content, pages = self.memory.read(), SpanSet()
        for start in range(0, len(content), PAGE):
            if content[start : start + PAGE] != self.before[start : start + PAGE]:
                pages.add(start, start + PAGE)
        return pages


def rests(pid: int) -> bool:
    """Whether a process is stopped or sleeps, so that it is still there when a signal arrives."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] in "TS"


def fill(h: RealJobs) -> StruckJob:
    """No undo: a worker that is lost for good leaves its chunk dirty."""
    before = NOISE
    start, length = GUARD, len(NOISE) - 2 * GUARD
    memory = h.memory(before)
    spec = JobSpec(
        "mem.fill",
        arg={"value": 7},
        sources={"data": memory.ref},
        ranges=(RangeSpec(start, length),),
        min_chunk=CHUNK,
    )
    after = before[:start] + b"\7" * length + before[-GUARD:]
    return StruckJob(spec, memory, before, after, pages=0)


def fill_mapped(h: RealJobs) -> StruckJob:
    """Fill memory through a mapping, which outlives the chunk."""
    victim = fill(h)
    memory = sealed(h, victim.before)
    spec = replace(victim.spec, sources={"data": memory.ref})
    return replace(victim, memory=memory, spec=spec, pages=(len(NOISE) - 2 * GUARD) // PAGE)


def sealed(h: RealJobs, content: bytes) -> Memory:
    """Memory that cannot shrink, so that workers map it."""
    memory = h.memory(content)
    fcntl.fcntl(memory.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    facts = replace(facts_of(memory.fd, access=Access.READ_WRITE), own_offset=True)
    assert facts.mappable
    return Memory(memory.fd, SourceRef(handle=h.handles.add(UID, 1, os.dup(memory.fd), facts)))


def crc(h: RealJobs) -> StruckJob:
    """In two ranges, so that two results have to be combined."""
    ranges = RangeSpec(0, 5 * MIB), RangeSpec(5 * MIB, 5 * MIB)
    spec = JobSpec("file.crc32", sources={"data": h.memory(NOISE).ref}, ranges=ranges, min_chunk=CHUNK)
    return StruckJob(spec, result={"crc32": zlib.crc32(NOISE), "bytes": len(NOISE)})


def copy(h: RealJobs) -> StruckJob:
    """Copy to an empty target, so that an undo can restore all of it."""
    source = bytes(MIB) + NOISE[: 7 * MIB] + bytes(MIB) + NOISE[:1000]
    target = h.memory(0)
    spec = JobSpec("file.copy", sources={"src": h.memory(source).ref, "dst": target.ref}, min_chunk=CHUNK)
    return StruckJob(spec, target, b"", source, result={"bytes": len(source)})


def copy_parts(h: RealJobs) -> StruckJob:
    """Copy in two ranges, so that one can be done while a worker is struck in the other one."""
    victim = copy(h)
    half = len(victim.after) // 2 // PAGE * PAGE
    ranges = RangeSpec(0, half), RangeSpec(half, len(victim.after) - half)
    return replace(victim, spec=replace(victim.spec, ranges=ranges))


def copy_over_parts(h: RealJobs) -> StruckJob:
    """The same over data with holes."""
    victim = copy_over(h)
    ranges = RangeSpec(0, 4 * MIB), RangeSpec(4 * MIB, 4 * MIB)
    return replace(victim, spec=replace(victim.spec, ranges=ranges))


def copy_over(h: RealJobs) -> StruckJob:
    """Copy data with holes over data with holes: not all of it can be restored."""
    target = h.memory(8 * MIB)
    source = h.memory(8 * MIB)
    for fd, first in ((target.fd, 0), (source.fd, MIB)):
        for start in range(first, 8 * MIB, 2 * MIB):
            os.pwrite(fd, NOISE[start + first : start + first + 3 * MIB // 2], start)
    spec = JobSpec("file.copy", sources={"src": source.ref, "dst": target.ref}, min_chunk=CHUNK)
    after = source.read()
    return StruckJob(spec, target, target.read(), after, result={"bytes": len(after)})


def copy_shorter(h: RealJobs) -> StruckJob:
    """Copy over something longer, which is cut in the end."""
    source, before = NOISE[: 3 * MIB], NOISE[MIB:]
    target = h.memory(before)
    spec = JobSpec("file.copy", sources={"src": h.memory(source).ref, "dst": target.ref}, min_chunk=CHUNK)
    return StruckJob(spec, target, before, source, result={"bytes": len(source)})


def populate(h: RealJobs) -> StruckJob:
    memory = h.memory(8 * MIB)
    os.pwrite(memory.fd, NOISE[:MIB], 3 * MIB)
    content = memory.read()
    spec = JobSpec("mem.populate", sources={"data": memory.ref}, min_chunk=CHUNK)
    return StruckJob(spec, memory, content, content, pages=8 * MIB // PAGE)


def longer(h: RealJobs) -> StruckJob:
    """Allocate storage beyond the end, which makes the memory longer."""
    before = NOISE[:MIB]
    memory = h.memory(before)
    ranges = (RangeSpec(0, 2 * MIB),)
    spec = JobSpec("file.allocate", sources={"data": memory.ref}, ranges=ranges, min_chunk=CHUNK)
    return StruckJob(spec, memory, before, before + bytes(MIB))


def items(h: RealJobs) -> StruckJob:
    pieces = [NOISE[: 1000 * i] for i in range(1, 9)]
    spec = JobSpec("file.crc32", items=tuple(h.memory(piece).ref for piece in pieces))
    found = [{"crc32": zlib.crc32(piece), "bytes": len(piece)} for piece in pieces]
    return StruckJob(spec, result={"items": found})


def log(h: RealJobs) -> StruckJob:
    """A job that cannot be retried, but undone; it shows how often each byte was touched."""
    return _log(h, -1)


def bad_log(h: RealJobs) -> StruckJob:
    """The same job, failing at its end."""
    return _log(h, LOG_SIZE - 1)


def _log(h: RealJobs, fail_at: int) -> StruckJob:
    memory = h.memory(LOG_SIZE + GUARD)
    spec = JobSpec(
        "selftest.undo_log",
        arg={"fail_at": fail_at},
        sources={"data": memory.ref},
        ranges=(RangeSpec(0, LOG_SIZE),),
        min_chunk=125,
    )
    before = memory.read()
    return StruckJob(spec, memory, before, b"\1" * LOG_SIZE + before[LOG_SIZE:], counts=True)


MAKERS: Mapping[str, Callable[[RealJobs], StruckJob]] = {
    maker.__name__: maker
    for maker in (
        fill,
        fill_mapped,
        crc,
        copy,
        copy_parts,
        copy_over,
        copy_over_parts,
        copy_shorter,
        populate,
        longer,
        items,
        log,
        bad_log,
    )
}
