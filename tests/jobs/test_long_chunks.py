"""A detached job that has all helpers to itself gets long chunks, and gives them back when another comes.

Tests: ktaskd/jobs/demand.py
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ktaskd.model.job import JobState
from tests.jobs.byhand import do, finish, worker_of
from tests.jobs.simulated import READER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker


async def settled(sim: Simulation, *, uid: int = 1) -> SimulatedWorker:
    """A helper in a detached job of 100,000 positions a second, with a second chunk in hand."""
    sim.submit(READER, 10_000_000, threads=1, chunk=1_000_000, waited=False, uid=uid)
    helper = worker_of(sim, lead=False)
    helper.begin()
    await asyncio.sleep(10.0)
    helper.answer()
    helper.begin()
    return helper


def length(helper: SimulatedWorker) -> int:
    (_, _, _, (start, end)), *_ = helper.queue
    return int(end - start)


def test_detached_job_when_alone_then_its_chunks_are_long() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        helper = await settled(sim)
        assert length(helper) == 200_000
        await asyncio.sleep(2.0)
        helper.answer()
        sim.dispatch.set_allowance(replace(sim.full, duty=0.02))
        finish(sim)

    play(story, helpers=1)


@pytest.mark.parametrize("waited", [True, False])
def test_detached_job_when_another_comes_then_it_gives_its_long_chunk_back(waited: bool) -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        helper = await settled(sim)
        other = sim.submit(READER, 10, uid=2, threads=2, chunk=10, waited=waited)
        assert helper.recalled
        helper.answer(whole=False)
        # The other uid has had less.
        helper = worker_of(sim, lead=False)
        assert sim.dispatch.job_of[helper] is other or (waited and length(helper) <= 20_000)
        finish(sim)
        assert other.state is JobState.SUCCEEDED

    play(story, helpers=1)


def test_detached_job_when_small_jobs_come_all_the_time_then_its_chunks_are_short_and_left_alone() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        helper = await settled(sim)
        sim.submit(READER, 10, uid=2, threads=1, chunk=10)
        helper.answer(whole=False)
        for _ in range(5):
            for worker in sim.workers:
                if worker.queue and worker.is_lead:
                    do(worker)
            await asyncio.sleep(0.1)
            helper = worker_of(sim, lead=False)
            if not helper.begun:
                helper.begin()
            assert length(helper) <= 20_000
            sim.submit(READER, 10, uid=2, threads=1, chunk=10)
            assert not helper.recalled
        finish(sim)

    play(story, helpers=1)


def test_detached_job_when_helpers_may_work_a_share_of_the_time_then_its_long_chunk_is_taken_back() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        helper = await settled(sim)
        sim.dispatch.set_allowance(replace(sim.full, duty=0.02))
        assert helper.recalled
        helper.answer(whole=False)
        assert not helper.queue  # a breath
        await asyncio.sleep(60.0)
        assert length(worker_of(sim, lead=False)) <= 20_000
        sim.dispatch.set_allowance(sim.full)
        finish(sim)

    play(story, helpers=1)
