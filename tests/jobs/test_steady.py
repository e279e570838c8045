"""A source that changes while a job reads it: a warning, or the job's error where it asked for that."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs.job import Job
from ktaskd.jobs.steady import Watched
from ktaskd.model.errors import ArgumentInvalid
from ktaskd.model.function import Access, ArgValue
from ktaskd.model.job import JobSpec, JobState, SourceRef
from ktaskd.model.limits import WARNINGS_MAX
from tests.jobs.realjobs import MIB, Memory, RealJobs, real_jobs, run

SIZE = 2 * MIB
CONTENT = b"line\n" * (SIZE // 5) + b"line\n"[: SIZE % 5]

ARGS: dict[str, dict[str, ArgValue]] = {
    "text.search": {"pattern": "line"},
    "text.extract": {"pattern": "line"},
    "array.reduce": {"dtype": "uint8"},
    "file.manifest": {"block": SIZE},
    "file.verify": {"block": SIZE},
    "file.xxh3": {"block": SIZE},
}

BY_ROLE = sorted(
    (one.name, source.role)
    for one in CATALOGUE.values()
    if one.steady and not one.whole_files
    for source in one.sources
    if source.access is Access.READ
)

Change = Callable[[int], object]


def written(fd: int) -> None:
    """In what gzip has the time of its source in, so that it can be read all the same."""
    os.pwrite(fd, b"X", 5)


def written_and_set_back(fd: int) -> None:
    before = os.fstat(fd)
    written(fd)
    os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def of_another_mode(fd: int) -> None:
    os.fchmod(fd, 0o600)


def left_alone(fd: int) -> None:
    """Nothing."""


def source_of(h: RealJobs, name: str, role: str) -> Memory:
    if role == "dst":
        return h.memory(0)
    if role == "expected":
        return h.memory(hashlib.sha256(CONTENT).digest())
    return h.memory(gzipped() if name == "file.decompress" else CONTENT)


def gzipped() -> bytes:
    return gzip.compress(CONTENT, 1)


async def ended(
    h: RealJobs, name: str, role: str, change: Change, **arg: ArgValue
) -> tuple[Job, dict[str, Memory]]:
    """A job one of whose sources changes right after it has begun, at its end."""
    memories = {role.role: source_of(h, name, role.role) for role in CATALOGUE[name].sources}
    refs = {role: memory.ref for role, memory in memories.items()}
    job = await h.submit(JobSpec(name, {**ARGS.get(name, {}), **arg}, sources=refs))
    assert job.start_s, "it begins at once"
    change(memories[role].fd)  # nobody has heard of a worker yet
    await h.ended(job)
    return job, memories


def warned(job: Job) -> list[tuple[str, str, int | None]]:
    return [(warning.code, warning.source, warning.item) for warning in job.watched.warnings]


@pytest.mark.parametrize(("name", "role"), BY_ROLE)
def test_source_when_it_changes_while_it_is_read_then_a_warning_or_the_error(name: str, role: str) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            for change in (written, written_and_set_back, of_another_mode):
                job, _ = await ended(h, name, role, change)
                assert job.state is JobState.SUCCEEDED, (change, job.error)
                assert warned(job) == [("SOURCE_CHANGED", role, None)], change
                assert f'source "{role}": changed while it was read: ' in job.watched.warnings[0].message
            job, found = await ended(h, name, role, written, changed="fail")
            assert job.error is not None
            assert (job.state, job.error.reason) == (JobState.FAILED, "SOURCE_CHANGED"), job.error
            assert "somebody wrote to it" in job.error.message
            assert found["dst"].read() == b"" if "dst" in found else True
            job, _ = await ended(h, name, role, left_alone, changed="fail")
            assert (job.state, warned(job)) == (JobState.SUCCEEDED, []), job.error

    run(story())


def test_source_when_it_is_longer_before_the_job_begins_then_all_of_it_was_not_read() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(CONTENT)
            job = await h.submit(JobSpec("file.crc32", sources={"data": memory.ref}))
            os.write(memory.fd, b"more")
            job.watched.begin(job.checked, job.sources)
            await h.ended(job)
            (warning,) = job.watched.warnings
            assert f"its length changed from {SIZE} to {SIZE + 4} bytes" in warning.message

    run(story())


def test_target_when_the_job_writes_it_then_no_warning() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job, found = await ended(h, "file.copy", "dst", written)
            assert (job.state, warned(job)) == (JobState.SUCCEEDED, [])
            assert len(found["dst"].read()) == SIZE

    run(story())


def test_warnings_when_there_are_many_then_the_first_are_kept_and_the_others_counted() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            refs: tuple[SourceRef, ...] = tuple(h.memory(b"x").ref for _ in range(3))
            job = await h.run(JobSpec("file.crc32", items=refs))
            assert warned(job) == []
            watched = Watched()
            watched.note_items(job.checked, 7, [{"changed": "its length"}, {"crc32": 1}] * 250, by_role=False)
            assert [warning.item for warning in watched.warnings] == list(range(7, 7 + 2 * WARNINGS_MAX, 2))
            assert watched.omitted == 250 - WARNINGS_MAX

    run(story())


def test_argument_when_it_is_neither_then_refused() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            spec = JobSpec("file.crc32", {"changed": "never"}, sources={"data": h.memory(b"x").ref})
            with pytest.raises(ArgumentInvalid, match='argument "changed": got "never", wanted warn or fail'):
                await h.submit(spec)

    run(story())
