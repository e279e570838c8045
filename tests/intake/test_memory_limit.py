"""Reading for a caller with a memory limit allocates nothing that its limit does not count.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from typing import Any

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.host.files import holes
from ktaskd.host.root import HostRoot
from ktaskd.intake.memory_limit import CallerMemory, as_allocating
from ktaskd.model.function import Access, Native
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, SourceRef
from ktaskd.model.memory import MemoryLimit
from ktaskd.model.source import F_SEAL_SHRINK, SourceFacts, SourceKind
from tests.jobs.realjobs import UID, Memory, RealJobs, real_jobs, run
from tests.support.sources import facts_of

SIZE = 8 << 20


def hollow(home: RealJobs) -> Memory:
    """Memory that is one hole, and has as much storage reserved beyond its end."""
    memory = home.memory(SIZE)
    fcntl.fcntl(memory.fd, fcntl.F_ADD_SEALS, F_SEAL_SHRINK)
    holes.allocate(memory.fd, SIZE, 2 * SIZE)
    sealed = replace(facts_of(memory.fd), own_offset=True)
    assert sealed.mappable
    return Memory(memory.fd, SourceRef(handle=home.handles.add(UID, 1, os.dup(memory.fd), sealed)))


def allocated(memory: Memory) -> int:
    """Bytes of storage inside of it."""
    holes.punch(memory.fd, SIZE, 2 * SIZE)
    return os.fstat(memory.fd).st_blocks * 512


JOBS: list[tuple[str, dict[str, Any], str]] = [
    ("file.crc32", {}, "data"),
    ("file.sha256", {}, "data"),
    ("file.compare", {}, "a"),
    ("array.reduce", {"dtype": "uint8", "op": "sum"}, "data"),
    ("text.search", {"pattern": "x"}, "data"),
]


@pytest.mark.parametrize(("function", "arg", "role"), JOBS)
def test_memory_when_it_seems_to_have_no_hole_then_reading_it_allocates_none(
    function: str, arg: dict[str, Any], role: str
) -> None:
    async def story() -> None:
        async with real_jobs() as home:
            home.unpaid = True
            memory = hollow(home)
            names = [one.role for one in CATALOGUE[function].sources]
            spec = JobSpec(function, arg=arg, sources=dict.fromkeys(names, memory.ref))
            job = await home.run(spec)
            assert job.state.value == "succeeded", job.error
            assert allocated(memory) == 0

    run(story())


def test_items_when_read_then_they_allocate_nothing_either() -> None:
    async def story() -> None:
        async with real_jobs() as home:
            home.unpaid = True
            memory = hollow(home)
            job = await home.run(JobSpec("file.crc32", items=(memory.ref, memory.ref)))
            assert job.state.value == "succeeded", job.error
            assert allocated(memory) == 0

    run(story())


def test_caller_when_its_limit_does_not_count_our_workers_then_unpaid() -> None:
    memory = CallerMemory(HostRoot(), lambda: [os.getpid()])
    who = Identity(1, 1, 1)
    assert not memory.reads_unpaid(who)
    limited = MemoryLimit(1 << 20, "/sys/fs/cgroup/of-somebody-else", "/sys/fs/cgroup/of-somebody-else")
    assert memory.reads_unpaid(replace(who, memory=limited))
    assert memory.reads_unpaid(replace(who, memory_known=False))


def test_native_code_when_it_reads_memory_then_it_counts_as_allocating() -> None:
    native = replace(CATALOGUE["file.crc32"], native=Native("/lib.so", "f", ""))
    facts = SourceFacts(SourceKind.MEMORY, Access.READ, False, 0, 1, 4096, 1, 1, "tmpfs", True)
    assert as_allocating(native, [facts]).allocates
    assert not as_allocating(native, [replace(facts, kind=SourceKind.FILE)]).allocates
    assert not as_allocating(CATALOGUE["file.crc32"], [facts]).allocates
