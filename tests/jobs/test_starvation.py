"""Helpers that others have taken the CPU from.

A stopped process stands for one that gets no CPU time: it is as still, and for
as long as the test wants. In tests of raising, the double of
the kernel says that it could run, and raising it lets it go on.

Guards: I10
"""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs import ports, view
from ktaskd.jobs.job import Job
from ktaskd.jobs.kernel import HostKernel
from ktaskd.model.function import Declaration
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.worker import WorkerState
from ktaskd.pool.link import Worker
from ktaskd.worker import frames
from tests.jobs.realjobs import RealJobs, real_jobs, run

UNITS = 30
SPIN = JobSpec("selftest.spin", arg={"ms": 2}, ranges=(RangeSpec(0, UNITS),), min_chunk=10)


@dataclass
class Waker:
    """Raises a stopped helper by letting it go on."""

    methods: tuple[str, ...] = ("SIGCONT",)
    raised: list[int] = field(default_factory=list)
    lowered: list[int] = field(default_factory=list)

    def raise_(self, pid: int) -> bool:
        self.raised.append(pid)
        os.kill(pid, signal.SIGCONT)
        return True

    def lower(self, pid: int) -> bool:
        self.lowered.append(pid)
        return True


class Contended(HostKernel):
    """A kernel where a stopped process counts as one that waits for a CPU."""

    def state(self, pid: int) -> str:
        return "R"


def state_of(worker: ports.Worker) -> str:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def stop_helpers(h: RealJobs) -> list[Worker]:
    """Stop every helper before it is given anything."""
    helpers = [worker for pool in h.pools for worker in pool.workers if not worker.is_lead]
    for worker in helpers:
        os.kill(worker.pid, signal.SIGSTOP)
    await h.until(lambda: all(state_of(worker) == "T" for worker in helpers))
    return helpers


def let_go(helpers: Iterable[ports.Worker]) -> None:
    for worker in helpers:
        if worker.pid and Path(f"/proc/{worker.pid}").exists():
            os.kill(worker.pid, signal.SIGCONT)


async def summed_without_helpers(h: RealJobs) -> tuple[Job, list[Worker]]:
    """A checksum that has the right result although all helpers stand still."""
    content = os.urandom(12 << 20)
    helpers = await stop_helpers(h)
    job = await h.run(JobSpec("file.crc32", sources={"data": h.memory(content).ref}, min_chunk=4 << 20))
    assert job.state is JobState.SUCCEEDED
    assert view.full_result(job) == {"crc32": zlib.crc32(content), "bytes": len(content)}
    return job, helpers


def undo_log(h: RealJobs, size: int) -> tuple[JobSpec, Any]:
    memory = h.memory(size)
    return JobSpec("selftest.undo_log", sources={"data": memory.ref}, min_chunk=size // 3), memory


def test_helper_when_it_has_not_begun_its_lease_then_the_lead_does_it_and_nobody_waits() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1) as h:
            job, helpers = await summed_without_helpers(h)
            usage = view.cpu(job)
            assert (usage.chunks_run_twice, usage.chunks_rerun, usage.helpers_raised) == (0, 0, 0)
            assert h.deaths == []
            let_go(helpers)
            await h.until(lambda: all(helper.state is WorkerState.IDLE for helper in helpers))

    run(story())


def test_helper_when_still_in_a_chunk_that_writes_nothing_then_the_lead_runs_it_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole_calls = replace(CATALOGUE["file.crc32"], quantum=0)
    monkeypatch.setitem(cast(dict[str, Declaration], CATALOGUE), "file.crc32", whole_calls)

    async def story() -> None:
        async with real_jobs(helpers=1) as h:
            job, helpers = await summed_without_helpers(h)
            assert view.cpu(job).chunks_run_twice == 1
            # It was killed, and seen dead before the job was told as ended: no end of a job is
            # earlier than the last worker's, as RealJobs asserts.
            assert [death.signal for death in h.deaths] == [signal.SIGKILL]
            assert (view.cpu(job).chunks_rerun, view.cpu(job).helpers_raised) == (0, 0)
            let_go(helpers)

    run(story())


def test_items_when_a_helper_stands_still_then_each_result_is_told_once() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1) as h:
            sources = [h.memory(bytes([i]) * 10) for i in range(9)]
            helpers = await stop_helpers(h)
            refs = tuple(source.ref for source in sources)
            job = await h.run(JobSpec("file.crc32", items=refs, min_chunk=3))
            wanted = [{"crc32": zlib.crc32(bytes([i]) * 10), "bytes": 10} for i in range(9)]
            assert view.full_result(job) == {"items": wanted}
            let_go(helpers)

    run(story())


def test_helper_when_it_goes_on_while_the_lead_has_its_chunk_then_it_counts_once() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1) as h:
            helpers = await stop_helpers(h)
            job = await h.submit(SPIN)
            await h.until(lambda: job.tally.duplicated)
            let_go(helpers)
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED
            assert view.progress(job).positions_done == UNITS
            assert not h.deaths

    run(story())


def test_chunk_when_in_two_hands_and_the_lead_dies_then_the_helper_has_it() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1) as h:
            helpers = await stop_helpers(h)
            job = await h.submit(SPIN)
            await h.until(lambda: job.tally.duplicated and job.crew.lead is not None)
            assert job.crew.lead is not None
            os.kill(job.crew.lead.pid, signal.SIGKILL)
            await h.until(lambda: h.deaths)
            let_go(helpers)
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED, view.full_error(job)
            assert view.cpu(job).chunks_rerun == 0

    run(story())


def test_chunk_when_in_two_hands_and_the_helper_dies_then_the_lead_has_it() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1) as h:
            helpers = await stop_helpers(h)
            job = await h.submit(SPIN)
            await h.until(lambda: job.tally.duplicated)
            for worker in job.crew.helpers:
                os.kill(worker.pid, signal.SIGKILL)
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED, view.full_error(job)
            assert (view.cpu(job).chunks_rerun, view.cpu(job).chunks_run_twice) == (0, 1)
            let_go(helpers)

    run(story())


def test_writer_when_its_helper_stands_still_then_its_chunk_is_in_one_hand_only() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1, raiser=Waker()) as h:
            helpers = await stop_helpers(h)
            spec, memory = undo_log(h, UNITS)
            job = await h.submit(spec)
            await h.until(lambda: any(worker.slot[frames.SLOT_RECALL] for worker in helpers))
            await h.until(lambda: job.crew.lead is None and not job.left)
            assert h.state(job) is JobState.RUNNING
            let_go(helpers)
            await h.ended(job)
            assert h.state(job) is JobState.SUCCEEDED
            assert memory.read() == b"\1" * UNITS
            assert (view.cpu(job).chunks_recalled, view.cpu(job).chunks_run_twice) == (1, 0)
            assert not h.deaths

    run(story())


def test_writer_when_its_helper_is_starved_then_raised_until_it_has_answered() -> None:
    async def story() -> None:
        waker = Waker()
        async with real_jobs(helpers=1, raiser=waker, kernel=Contended()) as h:
            await stop_helpers(h)
            spec, memory = undo_log(h, UNITS)
            job = await h.run(spec)
            assert job.state is JobState.SUCCEEDED, view.full_error(job)
            assert memory.read() == b"\1" * UNITS
            assert view.cpu(job).helpers_raised == len(waker.raised) == 1
            assert waker.lowered == waker.raised
            assert not any(h.dispatch.roster[worker].raised for pool in h.pools for worker in pool.workers)
            let_go([worker for pool in h.pools for worker in pool.workers])

    run(story())


def test_cancelled_job_when_its_helper_is_starved_then_raised_to_let_go() -> None:
    async def story() -> None:
        waker = Waker()
        async with real_jobs(helpers=1, raiser=waker, kernel=Contended()) as h:
            await stop_helpers(h)
            spec, memory = undo_log(h, UNITS)
            job = await h.submit(spec, waited=False)
            await h.until(lambda: job.crew.helpers)
            h.engine.cancel(job)
            await h.ended(job)
            assert job.state is JobState.CANCELLED, view.full_error(job)
            assert set(memory.read()) == {0}
            assert len(waker.raised) == 1
            let_go([worker for pool in h.pools for worker in pool.workers])

    run(story())


def test_writer_that_cannot_run_twice_when_nothing_can_be_raised_then_the_lead_does_it_alone() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            spec, _ = undo_log(h, UNITS)
            job = await h.run(spec)
            assert job.state is JobState.SUCCEEDED
            assert view.cpu(job).helper_s == 0
            detached = await h.run(spec, waited=False)
            assert view.cpu(detached).helper_s > 0

    run(story())


def test_detached_job_when_one_helper_stands_still_at_the_end_then_another_takes_its_rest() -> None:
    async def story() -> None:
        async with real_jobs(helpers=2) as h:
            (first, *_) = await stop_helpers(h)
            job = await h.submit(SPIN, waited=False)
            await h.until(lambda: len(job.crew.helpers) == 2)
            let_go([worker for worker in job.crew.helpers if worker is not first])
            await h.until(lambda: first.slot[frames.SLOT_RECALL])
            let_go([first])
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED
            assert view.cpu(job).chunks_recalled >= 1
            assert view.cpu(job).lead_s == 0

    run(story())


def test_lead_when_a_helper_is_starved_then_it_may_use_that_cpu() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1, kernel=Contended()) as h:
            helpers = await stop_helpers(h)
            spec = JobSpec("selftest.spin", arg={"ms": 3_600_000}, ranges=(RangeSpec(0, 2),))
            job: Job = await h.submit(spec)
            await h.until(lambda: job.crew.lead is not None and len(job.crew.helpers) == 1)
            lead = job.crew.lead
            assert lead is not None
            (helper,) = job.crew.helpers
            await h.until(lambda: h.dispatch.roster[helper].starved)
            assert helper.cpu in h.dispatch.roster[lead].cpus
            let_go(helpers)

    run(story())
