"""How many workers are at one disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ktaskd.host.files.disk import Disk
from ktaskd.intake.disk_limits import DiskLimits, DiskOf
from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState, SourceRef
from ktaskd.model.source import SourceKind
from tests.jobs.realjobs import ME, UID, RealJobs, real_jobs, run
from tests.support.sources import facts_of

OTHER = Identity(UID + 7, os.getegid(), os.getpid(), nid=0)


def at_disk(rooms: RealJobs, directory: Path, name: str, uid: int) -> SourceRef:
    """A file on the disk that turns."""
    path = directory / name
    path.write_bytes(bytes(4096))
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    facts = replace(facts_of(fd), kind=SourceKind.FILE, own_offset=True)
    return SourceRef(handle=rooms.handles.add(uid, 1, fd, facts))


def slow(ref: SourceRef, positions: int = 4096) -> JobSpec:
    """A job that takes a millisecond for each position."""
    return JobSpec(
        "selftest.undo_log", arg={"delay_ms": 1.0}, sources={"data": ref}, min_chunk=16, max_threads=4
    )


def turn(rooms: RealJobs) -> None:
    rooms.intake.conditions.disk_of = DiskOf(DiskLimits(), lambda _: Disk("sda", True))


def workers(*jobs: Job) -> int:
    return sum(len(job.crew.busy) for job in jobs)


def test_jobs_when_at_one_disk_that_turns_then_one_helper_in_turn(tmp_path: Path) -> None:
    async def go() -> None:
        async with real_jobs() as rooms:
            turn(rooms)
            mine = await rooms.submit(slow(at_disk(rooms, tmp_path, "a", UID)), waited=False)
            other = await rooms.submit(
                slow(at_disk(rooms, tmp_path, "b", OTHER.uid)), waited=False, who=OTHER
            )
            seen: set[Job] = set()

            def both() -> bool:
                seen.update(job for job in (mine, other) if job.crew.busy)
                assert workers(mine, other) <= 1
                return len(seen) == 2 and mine.tally.chunks_done + other.tally.chunks_done > 20

            await rooms.until(both)
            waiting = next(job for job in (mine, other) if not job.crew.busy)
            assert [reason.code for reason in view.waiting_reasons(waiting)] == ["DISK_LIMIT"]
            assert "sda" in view.waiting_reasons(waiting)[0].message

    run(go())


def test_lead_when_it_comes_to_a_full_disk_then_it_begins_and_the_helper_goes(tmp_path: Path) -> None:
    async def go() -> None:
        async with real_jobs() as rooms:
            turn(rooms)
            detached = await rooms.submit(slow(at_disk(rooms, tmp_path, "a", UID)), waited=False)
            await rooms.until(lambda: workers(detached) == 1)
            waited = await rooms.submit(slow(at_disk(rooms, tmp_path, "b", UID)), waited=True, who=ME)
            await rooms.until(lambda: waited.crew.lead is not None and workers(detached) == 0)
            assert not waited.crew.helpers
            rooms.engine.cancel(waited)
            await rooms.ended(waited)
            await rooms.until(lambda: workers(detached) == 1)

    run(go())


def test_job_when_its_disk_has_no_limit_then_all_helpers(tmp_path: Path) -> None:
    async def go() -> None:
        async with real_jobs() as rooms:
            rooms.intake.conditions.disk_of = DiskOf(DiskLimits(), lambda _: Disk("nvme0n1", False))
            job = await rooms.submit(slow(at_disk(rooms, tmp_path, "a", UID)), waited=False)
            await rooms.until(lambda: workers(job) == 2)
            rooms.engine.cancel(job)
            await rooms.ended(job)
            assert job.state is JobState.CANCELLED

    run(go())
