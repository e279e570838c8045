"""The story of a real job names what limited the job.

Tests: ktaskd/jobs/stories.py
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ktaskd.host.files.disk import Disk
from ktaskd.intake.disk_limits import DiskLimits, DiskOf
from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Level, Reason
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState, RangeSpec, SourceRef
from ktaskd.model.source import SourceKind
from tests.jobs.realjobs import ME, MIB, UID, RealJobs, real_jobs, run
from tests.support.sources import facts_of

Limited = Callable[[RealJobs, Path], Awaitable[Job]]


def spin(ms: float, positions: int = 1, threads: int = 1) -> JobSpec:
    return JobSpec(
        "selftest.spin", arg={"ms": ms}, ranges=(RangeSpec(0, positions),), max_threads=threads, min_chunk=1
    )


def on_disk(h: RealJobs, path: Path, size: int) -> SourceRef:
    path.write_bytes(b"")
    os.truncate(path, size)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    facts = replace(facts_of(fd), kind=SourceKind.FILE, own_offset=True)
    return SourceRef(handle=h.handles.add(UID, 1, fd, facts))


async def too_small(h: RealJobs, _: Path) -> Job:
    return await h.run(spin(150, threads=4))


async def one_writer(h: RealJobs, directory: Path) -> Job:
    source = {"data": on_disk(h, directory / "f", 256 * MIB)}
    return await h.run(JobSpec("mem.fill", arg={"value": 7}, sources=source))


async def by_disk(h: RealJobs, directory: Path) -> Job:
    h.intake.conditions.disk_of = DiskOf(DiskLimits(), lambda _: Disk("sda", True))
    source = {"data": on_disk(h, directory / "f", 256)}
    # With a lead, which a busy machine does not starve.
    return await h.run(JobSpec("selftest.undo_log", arg={"delay_ms": 1.0}, sources=source, min_chunk=16))


async def by_quota(h: RealJobs, _: Path) -> Job:
    who = Identity(UID, ME.gid, ME.pid, nid=0, cpu_quota=0.1)
    return await h.run(spin(20, 3, threads=4), who=who)


async def paused(h: RealJobs, _: Path) -> Job:
    before = h.dispatch.allowance
    why = Reason("BATTERY_LOW", "the battery is low", "9 %", "below 10 %")
    h.engine.set_allowance(replace(before, helpers={0: 0}, level=Level.PAUSED, reasons=(why,)))
    job = await h.submit(spin(5), waited=False)
    await h.run(spin(300))  # a waited job goes on meanwhile
    assert job.state is JobState.QUEUED
    h.engine.set_allowance(before)
    await h.ended(job)
    return job


async def behind(h: RealJobs, _: Path) -> Job:
    others = [await h.submit(spin(150, 2), waited=False) for _ in range(2)]
    job = await h.submit(spin(5), waited=False)
    await h.ended(job, *others)
    return job


@pytest.mark.parametrize(
    ("limited", "code"),
    [
        (too_small, "TOO_SMALL"),
        (one_writer, "ONE_WRITER"),
        (by_disk, "DISK_LIMIT"),
        (by_quota, "CLIENT_LIMIT"),
        (paused, "BATTERY_LOW"),
        (behind, "WORKERS_BUSY"),
    ],
)
def test_job_when_it_has_a_limit_then_its_story_names_it(limited: Limited, code: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await limited(h, tmp_path)
            assert job.state is JobState.SUCCEEDED
            told = h.engine.stories.story(job)
            assert told.limit == code, told
            took_s = job.end_s - job.create_s
            assert sum(cause.seconds for cause in told.causes) == pytest.approx(took_s, abs=0.02)

    run(story())


def test_words_when_a_job_was_paused_then_value_and_threshold_are_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await paused(h, tmp_path)
            told = h.engine.stories.story(job)
            (cause,) = [cause for cause in told.causes if cause.code == "BATTERY_LOW"]
            assert (cause.value, cause.threshold) == ("9 %", "below 10 %")
            assert cause.seconds >= 0.2
            first, *_, last = told.moments
            assert first.situation.state is JobState.QUEUED
            assert first.situation.causes == ("BATTERY_LOW",)
            assert last.at_s >= 0.2

    run(story())


def test_job_when_it_has_all_of_its_workers_then_no_cause_is_noted() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            before = h.dispatch.allowance
            why = Reason("CPU_PRESSURE", "others wait for CPU time")
            h.engine.set_allowance(replace(before, helpers={0: 1}, level=Level.FEWER, reasons=(why,)))
            # Of two workers, its lead and the one helper that is left.
            job = await h.run(spin(60, 4, threads=2))
            told = h.engine.stories.story(job)
            both = [one.situation.causes for one in told.moments if one.situation.at_work == 2]
            assert both
            # On a busy machine the helper may be starved, and then the job has one worker that counts.
            assert all(causes == () or causes[0] == "STARVED" for causes in both)

    run(story())


def test_job_when_over_at_once_then_it_keeps_no_history_and_has_a_story(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.run(spin(1))
            if job.end_s - job.create_s < 0.05:
                assert job.record.history is None
            told = h.engine.stories.story(job)
            assert told.wanted == 1
            assert {cause.code for cause in told.causes} <= {"STARTING", "TOO_SMALL", "MAX_THREADS"}

    run(story())


def test_job_when_it_waits_and_is_asked_about_then_the_answer_costs_it_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with real_jobs(helpers=0, leads=1) as h:
            job = await h.submit(spin(1), waited=False)
            told = h.engine.stories.story(job)
            assert job.record.history is None
            assert told.limit in ("", "STARTING")
            h.engine.cancel(job)

    run(story())
