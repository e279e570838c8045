"""Jobs that run in their caller's memory cgroup: in turn, counted, and to one end only."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ktaskd.host.cgroups.memgroup import read_memory_group
from ktaskd.host.root import HostRoot
from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.memory import MemoryLimit
from tests.jobs.realjobs import CPUS, ME, MIB, STRANGER, RealJobs, real_jobs, run
from tests.support.cgroups import cgroup, own_group

pytestmark = pytest.mark.other_uid

LIMIT = 96 * MIB


@asynccontextmanager
async def limited_house(**changes: Any) -> AsyncIterator[tuple[RealJobs, Path]]:
    """Real jobs, where ME is limited for every function, and the directory of that cgroup."""
    with cgroup(own_group("memory"), {"memory.limit_in_bytes": str(LIMIT)}) as group:
        async with real_jobs(**changes) as h:
            limit = MemoryLimit(LIMIT, str(group), str(group))
            h.limit_all = lambda who: limit if who.uid == ME.uid else None
            yield h, group
            assert not h.bugs


def spin(positions: int, ms: float) -> JobSpec:
    return JobSpec("selftest.spin", {"ms": ms}, ranges=(RangeSpec(0, positions, -1),))


@pytest.mark.parametrize("waited", [True, False])
def test_job_when_limited_then_one_guest_does_it_and_ends(waited: bool) -> None:
    async def story() -> None:
        async with limited_house() as (h, group):
            job = await h.submit(spin(1000, 1), waited=waited)
            worker = await h.begun(job)
            assert worker.is_lead is waited
            assert worker.applied.policy == ("normal" if waited else "idle")
            assert read_memory_group(HostRoot(), worker.pid) == str(group)
            assert job.plan.threads == 1
            h.engine.cancel(job)
            await h.ended(job)
            await h.until(lambda: not list(h.guests.workers))
            assert h.engine.counters["workers_died"] == 0

    run(story())


def test_helper_guest_when_somebody_begins_to_wait_then_a_lead_takes_over() -> None:
    async def story() -> None:
        async with limited_house() as (h, _):
            job = await h.submit(spin(1000, 1), waited=False)
            helper = await h.begun(job)
            assert not helper.is_lead
            h.engine.guard(job)
            await h.until(lambda: job.crew.lead is not None and h.holders(job))
            assert h.holders(job) == [job.crew.lead]
            h.engine.cancel(job)
            await h.ended(job)

    run(story())


def test_guests_when_leads_are_limited_then_they_wait_as_others() -> None:
    async def story() -> None:
        async with limited_house(leads=1, leads_per_uid=1) as (h, _):
            first = await h.submit(spin(100, 1))
            second = await h.submit(spin(100, 1))
            third = await h.submit(spin(100, 1), who=STRANGER)
            assert [reason.code for reason in view.waiting_reasons(second)] == ["LEAD_LIMIT"]
            await h.ended(first, second, third)
            assert {job.state for job in (first, second, third)} == {JobState.SUCCEEDED}

    run(story())


@pytest.mark.parametrize(("waited", "positions"), [(True, 100), (False, 20)])
def test_guests_when_others_came_first_then_both_have_their_turn(waited: bool, positions: int) -> None:
    async def story() -> None:
        async with limited_house(nodes=(CPUS[:1],), helpers=1, leads=1) as (h, _):
            theirs = await h.submit(spin(3 * positions, 1), waited=waited, who=STRANGER)
            mine = await h.submit(spin(positions // 4, 1), waited=waited)
            await h.ended(mine)
            assert mine.state is JobState.SUCCEEDED
            await h.ended(theirs)
            assert h.state(theirs) is JobState.SUCCEEDED
            assert mine.ended_boot_s < theirs.ended_boot_s, "who came later had a turn"

    run(story())


@pytest.mark.parametrize(("waited", "positions"), [(True, 100), (False, 20)])
def test_others_when_guests_came_first_then_both_have_their_turn(waited: bool, positions: int) -> None:
    async def story() -> None:
        async with limited_house(nodes=(CPUS[:1],), helpers=1, leads=1) as (h, _):
            mine = await h.submit(spin(3 * positions, 1), waited=waited)
            theirs = await h.submit(spin(positions // 4, 1), waited=waited, who=STRANGER)
            await h.ended(theirs)
            assert theirs.state is JobState.SUCCEEDED
            await h.ended(mine)
            assert h.state(mine) is JobState.SUCCEEDED
            assert theirs.ended_boot_s < mine.ended_boot_s, "who came later had a turn"

    run(story())


def test_guest_when_killed_then_the_job_fails_at_once_and_is_undone() -> None:
    async def story() -> None:
        async with limited_house() as (h, group):
            made = h.memory(64 * MIB)
            spec = JobSpec("selftest.undo_log", {"delay_ms": 0.0001}, {"data": made.ref})
            job = await h.submit(spec)
            worker = await h.begun(job)
            os.kill(worker.pid, signal.SIGKILL)
            await h.ended(job)
            assert job.error is not None
            assert job.error.reason == "WORKER_LOST"
            assert job.error.message.endswith(
                f"; it ran in the memory cgroup of its caller, where {group} has a limit of {LIMIT} bytes"
            )
            assert len(h.deaths) == 1 or h.deaths[1].status == 0
            assert job.state is JobState.FAILED
            assert set(made.read()) <= {0, 16, 17}, "an undo beside the limit"

    run(story())


def test_guest_when_it_dies_of_its_chunk_then_tried_as_elsewhere() -> None:
    async def story() -> None:
        async with limited_house() as (h, _):
            job = await h.run(JobSpec("selftest.crash", {"at": 0}, ranges=(RangeSpec(0, 1, -1),)))
            assert job.error is not None
            assert "killed by SIGSEGV" in job.error.message
            assert job.error.message.endswith("3 times")
            assert "limit" not in job.error.message

    run(story())


def test_guest_when_the_group_is_gone_then_the_job_says_so() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            gone = str(own_group("memory") / "ktaskd-test-gone")
            h.limit_all = lambda _: MemoryLimit(LIMIT, gone, gone)
            for waited in (True, False):
                job = await h.run(spin(10, 1), waited=waited)
                assert (job.state, job.error and job.error.reason) == (JobState.FAILED, "MEMORY_GROUP_CLOSED")
                assert job.error is not None
                assert f"could not enter {gone}, the memory cgroup of its caller" in job.error.message

    run(story())


def test_host_of_guests_when_killed_then_another_guest_goes_on() -> None:
    async def story() -> None:
        async with limited_house() as (h, _):
            job = await h.submit(spin(300, 2))
            await h.begun(job)
            os.kill(h.guests.host_pid, signal.SIGKILL)
            await h.until(lambda: h.deaths)
            await h.ended(job)
            # The kernel's answer to our own end looks the same as that of a full group.
            assert job.state in (JobState.SUCCEEDED, JobState.FAILED)

    run(story())


def test_job_when_cancelled_at_any_moment_then_ended_and_no_guest_left() -> None:
    async def story() -> None:
        async with limited_house() as (h, _):
            for i in range(12):
                job = await h.submit(spin(1000, 1), waited=i % 2 == 0)
                for _ in range(i):
                    await asyncio.sleep(0.002 * i)
                h.engine.cancel(job)
                await h.ended(job)
                assert job.state is JobState.CANCELLED
                assert job.guest.worker is None
            await h.until(lambda: not list(h.guests.workers))

    run(story())


def test_job_over_ranges_of_other_nodes_when_limited_then_its_guest_takes_all() -> None:
    async def story() -> None:
        nodes = (CPUS[:1], CPUS[1:2])
        async with limited_house(nodes=nodes, helpers=1) as (h, _):
            ranges = (RangeSpec(0, 50, 0), RangeSpec(50, 50, 1), RangeSpec(100, 50))
            for who in (replace(ME, nid=0), replace(ME, nid=1)):
                for waited in (True, False):
                    spec = JobSpec("selftest.spin", {"ms": 0.1}, ranges=ranges)
                    job: Job = await h.run(spec, waited=waited, who=who)
                    assert job.state is JobState.SUCCEEDED

    run(story())
