"""Workers that wait for a call keep nobody from anything."""

from __future__ import annotations

import asyncio

import pytest

from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Allowance
from ktaskd.model.function import Declaration, Partial
from ktaskd.model.job import JobState
from ktaskd.worker.messages import Rests, Wakes
from tests.jobs.simulated import READER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker

CALLS = Declaration("calls", "Calls of the caller's own code.", own=True, open_ended=True)
STEADY = Declaration("steady", "Reads.", partial=Partial.RERUN_SAFE)
TURNS = 1 << 20


def begun(sim: Simulation, *, uid: int = 1, threads: int = 1) -> tuple[Job, SimulatedWorker]:
    """A job of calls, and its lead, which has begun its turn."""
    job = sim.submit(CALLS, TURNS, uid=uid, threads=threads, chunk=1)
    sim.fill()
    worker = job.crew.lead
    assert isinstance(worker, SimulatedWorker)
    worker.begin()
    return job, worker


def report(worker: SimulatedWorker, kind: type[Rests | Wakes]) -> None:
    worker.sim.on_report(worker, kind(worker.queue[0][0]))


def test_lead_when_it_rests_then_others_have_its_permit_at_once() -> None:
    async def story(sim: Simulation) -> None:
        job, worker = begun(sim)
        other = sim.submit(READER, 10, threads=1, uid=2)
        sim.fill()
        assert not other.crew.busy
        report(worker, Rests)
        sim.fill()
        assert other.crew.lead is not None
        assert job.crew.busy == {worker}
        assert not worker.recalled

    play(story, leads=1, helpers=0)


def test_job_when_a_worker_of_it_rests_then_it_wants_no_more() -> None:
    async def story(sim: Simulation) -> None:
        job, worker = begun(sim, threads=3)
        assert len(job.crew.busy) == 3
        helper = next(iter(job.crew.helpers))
        report(worker, Rests)
        helper.kill()
        assert isinstance(helper, SimulatedWorker)
        helper.die()
        sim.fill()
        assert len(job.crew.busy) == 2, "what rests is enough for the next call"
        report(worker, Wakes)
        sim.fill()
        assert len(job.crew.busy) == 3

    play(story)


@pytest.mark.parametrize("leads", [1, 2])
def test_worker_when_a_call_comes_and_its_permit_is_anothers_then_it_gives_its_turn_back(leads: int) -> None:
    async def story(sim: Simulation) -> None:
        _, worker = begun(sim)
        report(worker, Rests)
        other = sim.submit(READER, 10, threads=1, uid=2)
        sim.fill()
        lead = other.crew.lead
        assert isinstance(lead, SimulatedWorker)
        report(worker, Wakes)
        assert worker.recalled == (leads == 1)
        assert not lead.recalled, "who works is not disturbed"

    play(story, leads=leads, helpers=0)


def test_user_when_its_workers_have_rested_then_it_has_saved_nothing_up() -> None:
    async def story(sim: Simulation) -> None:
        _, worker = begun(sim)
        report(worker, Rests)
        sim.submit(STEADY, 100, threads=1, uid=2)  # one that is there all the time
        for _ in range(20):
            job = sim.submit(STEADY, 100, threads=1, uid=2, chunk=10)
            sim.fill()
            while not job.state.ended:
                (other,) = job.crew.busy
                assert isinstance(other, SimulatedWorker)
                other.begin()
                other.answer()
        shares = sim.dispatch.shares
        assert shares.had(2) > shares.had(1) + 0.05
        report(worker, Wakes)
        assert shares.had(2) <= shares.had(1) + 0.05

    play(story)


def test_daemon_when_all_workers_rest_then_it_looks_at_none() -> None:
    async def story(sim: Simulation) -> None:
        _, worker = begun(sim, threads=2)
        for one in list(sim.dispatch.job_of):
            assert isinstance(one, SimulatedWorker)
            if not one.begun:
                one.begin()
            report(one, Rests)
        await asyncio.sleep(10)
        assert sim.engine.watches.activity._timer is None
        assert sim.engine.watches.starved._timer is None
        report(worker, Wakes)
        assert sim.engine.watches.activity._timer is not None

    play(story)


@pytest.mark.parametrize("rests_first", [True, False])
def test_job_when_cancelled_while_its_worker_rests_then_it_ends_after_that_worker(rests_first: bool) -> None:
    async def story(sim: Simulation) -> None:
        job, worker = begun(sim)
        if rests_first:
            report(worker, Rests)
        sim.engine.cancel(job)
        if not rests_first:
            report(worker, Rests)
        assert worker.recalled
        report(worker, Wakes)
        worker.answer(whole=False)
        assert not job.state.ended, "its worker is to end first"
        worker.die()
        assert job.state is JobState.CANCELLED

    play(story)


def test_helper_when_it_rests_then_it_is_recalled_only_where_none_may_work() -> None:
    async def story(sim: Simulation) -> None:
        _, worker = begun(sim, threads=2)
        helper = next(one for one in sim.dispatch.job_of if not one.is_lead)
        assert isinstance(helper, SimulatedWorker)
        helper.begin()
        report(helper, Rests)
        for helpers, recalled in ((1, False), (0, True)):
            sim.engine.set_allowance(Allowance({0: helpers}, 2, 2))
            assert helper.recalled is recalled
        assert not worker.recalled

    play(story)


def test_note_when_the_function_has_no_turns_then_its_worker_is_killed() -> None:
    async def story(sim: Simulation) -> None:
        job = sim.submit(READER, 10, threads=1)
        sim.fill()
        worker = job.crew.lead
        assert isinstance(worker, SimulatedWorker)
        worker.begin()
        report(worker, Rests)
        assert worker.is_killed

    play(story)
