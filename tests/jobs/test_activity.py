"""Workers that use no CPU hold nobody up: leads and helpers that sleep, are stopped, or wait for a disk.

Guards: I3
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Allowance, Level
from ktaskd.model.function import Declaration, Partial
from ktaskd.model.job import JobState
from ktaskd.model.limits import BLOCKED_PER_ACCOUNT_MAX
from tests.jobs.simulated import READER, REWRITER, SLEEPER, STEPS, WRITER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker


def of(sim: Simulation, job: Job) -> SimulatedWorker:
    """The one worker of a job."""
    (worker,) = [worker for worker, other in sim.dispatch.job_of.items() if other is job]
    assert isinstance(worker, SimulatedWorker)
    return worker


def fall_asleep(sim: Simulation, job: Job, *, state: str = "S") -> SimulatedWorker:
    """Have the one worker of a job begin, and then use no CPU."""
    worker = of(sim, job)
    worker.begin()
    worker.share, worker.runnable, worker.asleep_as = 0.0, False, state
    return worker


def wake_up(worker: SimulatedWorker) -> None:
    worker.share, worker.runnable = 1.0, True


def work_off(sim: Simulation, job: Job) -> None:
    """Have what a job is given done at once."""
    for _ in range(20):
        if job.state.ended:
            return
        worker = of(sim, job)
        worker.begin()
        worker.answer()
        if worker.retired:
            worker.die()  # it has run code that is not ours, and its job waits for that


async def sleepers(
    sim: Simulation, count: int, *, uid: int = 1, waited: bool = True
) -> list[SimulatedWorker]:
    """Begin this many jobs of one worker each, all of them asleep."""
    found = []
    for _ in range(count):
        job = sim.submit(SLEEPER, 1, threads=1, uid=uid, waited=waited, chunk=1)
        sim.fill()
        for _ in range(10):
            if job.crew.busy:
                break
            await asyncio.sleep(0.1)
            sim.fill()
        found.append(fall_asleep(sim, job))
    return found


def end(worker: SimulatedWorker) -> None:
    """Let a call end."""
    worker.answer()
    if not worker.is_dead:
        worker.die()  # it has run code that is not ours


def test_waited_job_when_all_leads_sleep_then_it_gets_another_lead_soon() -> None:
    async def story(sim: Simulation) -> None:
        sim.engine.set_allowance(paused(sim))
        asleep = await sleepers(sim, 2)
        job = sim.submit(READER, 10, threads=1, uid=2)
        assert view.waiting_reasons(job)[0].code == "LEAD_LIMIT"
        await asyncio.sleep(0.3)
        sim.fill()
        work_off(sim, job)
        assert job.state is JobState.SUCCEEDED
        for worker in asleep:
            end(worker)

    play(story)


def paused(sim: Simulation) -> Allowance:
    """No helpers, as on battery."""
    return replace(sim.full, helpers=dict.fromkeys(sim.full.helpers, 0), level=Level.LEADS_ONLY)


@pytest.mark.parametrize("state", ["S", "D", "T"])
def test_leads_when_they_go_on_then_the_newcomer_gives_back_and_waits(state: str) -> None:
    async def story(sim: Simulation) -> None:
        sim.engine.set_allowance(paused(sim))
        asleep = await sleepers(sim, 2)
        for worker in asleep:
            worker.asleep_as = state
        job = sim.submit(READER, 40, threads=1, uid=2)
        await asyncio.sleep(0.3)
        sim.fill()
        newcomer = of(sim, job)
        newcomer.begin()
        assert not newcomer.recalled
        wake_up(asleep[0])
        await asyncio.sleep(0.2)
        assert not newcomer.recalled, "there is a permit for both"
        wake_up(asleep[1])
        await asyncio.sleep(0.2)
        assert newcomer.recalled
        newcomer.answer(whole=False)
        assert not job.crew.busy
        assert sim.dispatch.leads.holders.active_total == 2
        end(asleep[0])
        sim.fill()
        work_off(sim, job)
        end(asleep[1])
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_lead_when_it_goes_on_before_the_newcomer_is_done_then_no_other_chunk_is_given() -> None:
    async def story(sim: Simulation) -> None:
        sim.engine.set_allowance(paused(sim))
        (asleep,) = await sleepers(sim, 1)
        job = sim.submit(READER, 40, threads=1, uid=2)
        await asyncio.sleep(0.3)
        sim.fill()
        newcomer = of(sim, job)
        newcomer.begin()
        wake_up(asleep)
        await asyncio.sleep(0.2)
        newcomer.answer()
        assert not job.crew.busy
        end(asleep)
        sim.fill()
        work_off(sim, job)
        assert job.state is JobState.SUCCEEDED

    play(story, leads=1)


def test_sleeping_leads_when_one_user_has_many_then_bounded_and_others_go_on() -> None:
    async def story(sim: Simulation) -> None:
        sim.engine.set_allowance(paused(sim))
        most = BLOCKED_PER_ACCOUNT_MAX
        asleep = await sleepers(sim, most)
        more = [sim.submit(SLEEPER, 1, threads=1, uid=1, chunk=1) for _ in range(4)]
        await asyncio.sleep(1.0)
        sim.fill()
        assert not any(job.crew.busy for job in more)
        assert view.waiting_reasons(more[0])[0].code == "LEAD_LIMIT"
        job = sim.submit(READER, 10, threads=1, uid=2)
        await asyncio.sleep(1.0)
        sim.fill()
        work_off(sim, job)
        assert job.state is JobState.SUCCEEDED
        for one in more:
            sim.engine.cancel(one)
        for worker in asleep:
            end(worker)

    play(story)


def test_waited_job_of_one_worker_when_no_lead_is_free_then_it_has_a_helper_at_once() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        busy = [sim.submit(READER, 1, threads=1, uid=uid) for uid in (1, 2)]
        sim.fill()
        job = sim.submit(READER, 30, threads=1, uid=3)
        helper = of(sim, job)
        assert not helper.is_lead
        helper.begin()
        work_off(sim, busy[0])
        assert of(sim, job) is helper, "never two at once"
        helper.answer()
        assert of(sim, job).is_lead, "a lead has become free"
        work_off(sim, job)
        work_off(sim, busy[1])
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_waited_job_when_its_helper_cannot_be_raised_and_it_writes_then_it_waits_for_a_lead() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        busy = [sim.submit(READER, 1, threads=1, uid=uid) for uid in (1, 2)]
        sim.fill()
        job = sim.submit(WRITER, 10, threads=1, uid=3)
        assert not job.crew.busy
        for one in (busy[0], job, busy[1]):
            work_off(sim, one)
        assert job.state is JobState.SUCCEEDED

    play(story, raises=False)


def test_detached_job_when_all_helpers_sleep_in_calls_then_another_helper_on_a_free_cpu() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        asleep = await sleepers(sim, 2, waited=False)
        assert not any(worker.is_lead for worker in asleep)
        job = sim.submit(READER, 10, threads=1, uid=2, waited=False)
        assert not job.crew.busy
        await asyncio.sleep(0.8)
        wake_up(asleep[0])
        await asyncio.sleep(0.8)
        sim.fill()
        helper = of(sim, job)
        assert not helper.is_lead
        assert helper.record.cpu == asleep[1].record.cpu, "the other one has its CPU again"
        helper.begin()
        wake_up(asleep[1])
        await asyncio.sleep(0.8)
        assert helper.recalled, "now there is one too many"
        helper.answer(whole=False)
        end(asleep[0])
        sim.fill()
        work_off(sim, job)
        end(asleep[1])
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_helpers_when_they_wait_for_a_disk_then_no_other_one_goes_there() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        busy = [sim.submit(READER, 1, threads=1, uid=1, waited=False) for _ in range(2)]
        workers = [fall_asleep(sim, job, state="D") for job in busy]
        job = sim.submit(READER, 10, threads=1, uid=2, waited=False)
        await asyncio.sleep(2.0)
        sim.fill()
        assert not job.crew.busy
        for worker in workers:
            worker.answer()
        work_off(sim, job)

    play(story)


def test_helpers_when_one_job_sleeps_in_all_of_them_then_it_has_no_more_of_them() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(SLEEPER, 20, threads=8, chunk=1, waited=False)
        later = sim.submit(READER, 10, threads=1, uid=1, waited=False)
        for worker in tuple(job.crew.helpers):
            assert isinstance(worker, SimulatedWorker)
            worker.begin()
            worker.share, worker.runnable = 0.0, False
        await asyncio.sleep(1.0)
        sim.fill()
        assert len(job.crew.helpers) == 2
        work_off(sim, later)
        assert later.state is JobState.SUCCEEDED, "its own user's next job goes on as well"
        sim.engine.cancel(job)
        for worker in tuple(job.crew.helpers):
            assert isinstance(worker, SimulatedWorker)
            worker.die()

    play(story)


@pytest.mark.parametrize("declaration", [READER, REWRITER, WRITER, SLEEPER, STEPS])
def test_lead_when_stopped_before_it_begins_then_resumed_and_else_replaced(declaration: Declaration) -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(declaration, 10, threads=1)
        worker = of(sim, job)
        worker.share, worker.runnable, worker.asleep_as = 0.0, False, "T"
        await asyncio.sleep(1.6)
        assert worker.resumed == 1
        assert not worker.is_killed
        await asyncio.sleep(3.0)
        assert worker.is_killed
        worker.die()
        sim.fill()
        work_off(sim, job)
        assert job.state is JobState.SUCCEEDED
        assert not sim.written[job.jno] or sim.written[job.jno].total == 10

    play(story)


@pytest.mark.parametrize(
    ("declaration", "wanted"),
    [(READER, JobState.SUCCEEDED), (REWRITER, JobState.SUCCEEDED), (WRITER, JobState.FAILED)],
)
def test_lead_when_stopped_in_a_chunk_for_good_then_killed_and_the_chunk_is_safe(
    declaration: Declaration, wanted: JobState
) -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(declaration, 10, threads=1)
        worker = fall_asleep(sim, job, state="T")
        await asyncio.sleep(4.6)
        assert (worker.resumed, worker.is_killed) == (1, True)
        worker.die()
        sim.fill()
        work_off(sim, job)
        assert job.state is wanted
        assert job.error is None or "stood still for" in job.error.message

    play(story)


def test_lead_when_the_callers_own_code_sleeps_then_it_may_for_ever() -> None:
    async def story(sim: Simulation) -> None:
        (worker,) = await sleepers(sim, 1)
        worker.asleep_as = "T"
        await asyncio.sleep(4000)
        assert (worker.resumed, worker.is_killed) == (0, False)
        end(worker)

    play(story)


def test_reader_when_a_disk_does_not_answer_then_tried_again_but_the_last_time_waited_for() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(READER, 10, threads=1)
        for _ in range(2):
            worker = fall_asleep(sim, job, state="D")
            await asyncio.sleep(10)
            assert not worker.is_killed
            await asyncio.sleep(15)
            assert worker.is_killed
            worker.die()
            sim.fill()
        worker = fall_asleep(sim, job, state="D")
        await asyncio.sleep(500)
        assert not worker.is_killed
        worker.answer()
        work_off(sim, job)
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_writer_when_a_disk_does_not_answer_then_waited_for() -> None:
    assert WRITER.partial is not Partial.RERUN_SAFE

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(WRITER, 10, threads=1)
        worker = fall_asleep(sim, job, state="D")
        await asyncio.sleep(500)
        assert not worker.is_killed
        worker.answer()
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_lead_when_its_disk_gets_on_a_little_then_left_alone() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(READER, 10, threads=1)
        worker = fall_asleep(sim, job, state="D")
        for _ in range(20):
            await asyncio.sleep(5)
            worker.cpu_s += 0.0001
        assert not worker.is_killed
        worker.answer()
        work_off(sim, job)

    play(story)
