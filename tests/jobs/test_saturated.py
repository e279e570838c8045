"""A worker that makes a job no faster is taken off it while the job is alone, and given back later.

Tests: ktaskd/jobs/saturated.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Level
from ktaskd.model.job import JobState
from ktaskd.planner.saturation import AGAIN_S, FIRST_WRITING_S, MEASURE_S
from tests.jobs.leaploop import pending
from tests.jobs.simulated import LEASED, REWRITER, Simulation, play
from tests.jobs.simulated_worker import QUANTUM, SimulatedWorker
from tests.jobs.test_leases import all_answer, begun

TOTAL = 10**9
STEP_S = MEASURE_S / 6
TRIAL_S = FIRST_WRITING_S + 4 * MEASURE_S
"""By then the first trial is over."""


def at_work(sim: Simulation, job: Job) -> list[SimulatedWorker]:
    return [worker for worker in sim.workers if worker.queue and sim.dispatch.job_of.get(worker) is job]


def reasons(job: Job) -> list[str]:
    return [reason.code for reason in view.waiting_reasons(job)]


async def work(sim: Simulation, job: Job, seconds: float, speeds: Sequence[int]) -> int:
    """Let the workers of a job get on, which together do `speeds[workers]` positions a step.

    Returns:
        The most workers that were at it at the same time in the end.
    """
    for _ in range(round(seconds / STEP_S)):
        await asyncio.sleep(STEP_S)
        workers = at_work(sim, job)
        for worker in workers:
            worker.begin()
            end = worker.queue[0][3][1]
            worker.at = (worker.at[0], min(worker.at[1] + speeds[len(workers)] // len(workers), end))
            worker.claim = min(worker.at[1] + QUANTUM, end)
            if worker.recalled:
                worker.answer(whole=False)
    return len(at_work(sim, job))


def test_helper_when_two_are_no_faster_than_one_then_taken_off_and_tried_again() -> None:
    async def story(sim: Simulation) -> None:
        job = sim.submit(LEASED[REWRITER], TOTAL, threads=2)
        begun(sim, job)
        assert await work(sim, job, TRIAL_S, [0, 1000, 1000]) == 1
        assert reasons(job) == ["SATURATED"]
        assert await work(sim, job, AGAIN_S + 2 * MEASURE_S, [0, 1000, 2000]) == 2
        assert await work(sim, job, 2 * TRIAL_S, [0, 1000, 2000]) == 2
        assert reasons(job) == []
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED
        told = sim.engine.stories.story(job)
        assert told.limit == "SATURATED"
        assert "MB/s with 2" in next(one.value for one in told.causes if one.code == "SATURATED")

    play(story)


def test_trial_when_another_job_arrives_then_the_job_may_have_all_of_its_workers() -> None:
    """A trial that nobody ends would keep a worker off for as long as the other job is there."""

    async def story(sim: Simulation) -> None:
        job = sim.submit(LEASED[REWRITER], TOTAL, threads=2)
        begun(sim, job)
        await work(sim, job, TRIAL_S / 2, [0, 1000, 1000])
        assert job.threads_paying == 1
        sim.submit(LEASED[REWRITER], TOTAL, threads=2, uid=2)
        await work(sim, job, MEASURE_S, [0, 1000, 1000])
        assert job.threads_paying == 2
        all_answer(sim)

    play(story)


def test_helper_when_starved_then_not_taken_off_for_being_slow() -> None:
    async def story(sim: Simulation) -> None:
        job = sim.submit(LEASED[REWRITER], TOTAL, threads=2)
        _, helper = begun(sim, job)
        helper.share = 0.3
        await work(sim, job, 2 * TRIAL_S, [0, 1000, 1000])
        assert reasons(job) == []
        assert job.threads_paying == 2
        all_answer(sim)

    play(story)


def test_looks_when_helpers_come_and_go_then_one_timer_and_none_without_workers() -> None:
    async def story(sim: Simulation) -> None:
        job = sim.submit(LEASED[REWRITER], TOTAL, threads=2, waited=False)
        sim.fill()
        await work(sim, job, 4 * AGAIN_S, [0, 1000, 2000])

        def looks() -> int:
            return sum("SaturationWatch" in repr(timer) for timer in pending(sim.loop))

        assert looks() == 1
        sim.dispatch.set_allowance(replace(sim.full, helpers={0: 0}, level=Level.PAUSED))
        await work(sim, job, 4 * AGAIN_S, [0, 1000, 2000])
        assert not at_work(sim, job)
        assert looks() == 0
        sim.dispatch.set_allowance(sim.full)
        assert looks() == 1
        all_answer(sim)

    play(story)
