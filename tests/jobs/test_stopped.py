"""Real leads that somebody stops: their job goes on all the same.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from ktaskd.jobs import view
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.pool.link import Worker
from tests.jobs.realjobs import RealJobs, real_jobs, run

NOOP = JobSpec("selftest.noop", ranges=(RangeSpec(0, 1, -1),))
SPIN = JobSpec("selftest.spin", {"ms": 1}, ranges=(RangeSpec(0, 400, -1),), max_threads=1)
SIZE = 3 << 20


def state_of(worker: Worker) -> str:
    with suppress(OSError), open(f"/proc/{worker.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
    return ""


@pytest.fixture
def for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make SIGCONT useless, as where somebody stops the process again at once."""
    monkeypatch.setattr(Worker, "resume", lambda _: None)


def lead(h: RealJobs) -> Worker:
    (only,) = h.leads.workers
    return only


def test_job_when_an_idle_lead_was_stopped_then_it_goes_on_there() -> None:
    async def story() -> None:
        async with real_jobs(leads=1, helpers=0) as h:
            os.kill(lead(h).pid, signal.SIGSTOP)
            job = await h.run(NOOP)
            assert job.state is JobState.SUCCEEDED
            assert h.engine.counters["workers_resumed"] == 1
            assert not h.deaths

    run(story())


@pytest.mark.usefixtures("for_good")
def test_job_when_an_idle_lead_is_kept_stopped_then_another_one_does_it() -> None:
    async def story() -> None:
        async with real_jobs(leads=1, helpers=0) as h:
            os.kill(lead(h).pid, signal.SIGSTOP)
            job = await h.run(NOOP)
            assert job.state is JobState.SUCCEEDED
            assert [death.signal for death in h.deaths] == [signal.SIGKILL]

    run(story())


async def stop_at_work(h: RealJobs, deaths: int) -> None:
    job = await h.submit(SPIN)
    worker = await h.begun(job)
    os.kill(worker.pid, signal.SIGSTOP)
    await h.ended(job)
    assert job.state is JobState.SUCCEEDED
    assert view.progress(job).positions_done == 400
    assert len(h.deaths) == deaths


def test_reader_when_its_lead_is_stopped_at_work_then_it_goes_on() -> None:
    async def story() -> None:
        async with real_jobs(leads=1, helpers=0) as h:
            await stop_at_work(h, 0)

    run(story())


@pytest.mark.usefixtures("for_good")
def test_reader_when_its_lead_is_kept_stopped_then_another_one_does_it() -> None:
    async def story() -> None:
        async with real_jobs(leads=1, helpers=0) as h:
            await stop_at_work(h, 1)

    run(story())


@pytest.mark.usefixtures("for_good")
def test_helper_when_a_detached_writers_is_kept_stopped_then_not_for_ever() -> None:
    async def story() -> None:
        async with real_jobs(leads=1, helpers=1) as h:
            memory = h.memory(SIZE)
            (helper,) = [worker for worker in h.pools[0].workers if worker.cpu == min(h.setting.nodes[0])]
            for worker in h.pools[0].workers:
                if worker is not helper:
                    h.dispatch.helpers.cooldowns.pause(worker, asyncio.get_running_loop().time() + 60)
            os.kill(helper.pid, signal.SIGSTOP)
            await h.until(lambda: state_of(helper) == "T")
            spec = JobSpec("mem.fill", {"value": 7}, {"data": memory.ref}, max_threads=1)
            job = await h.run(spec, waited=False)
            assert job.state is JobState.SUCCEEDED
            assert memory.read() == bytes([7]) * SIZE

    run(story())
