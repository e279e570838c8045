"""A worker that is done gets a part of another worker's lease, and nobody loses or gains a position by that.

Guards: I1, I2
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ktaskd.jobs.job import Job
from ktaskd.model.function import Declaration
from ktaskd.model.job import JobState
from ktaskd.model.limits import CHUNK_TIME_TARGET_S
from ktaskd.worker.frames import LeaseDone
from tests.jobs.simulated import LEASED, READER, REWRITER, WRITER, Simulation, play
from tests.jobs.simulated_worker import QUANTUM, SimulatedWorker

TOTAL = 400


def begun(sim: Simulation, job: Job) -> tuple[SimulatedWorker, SimulatedWorker]:
    """The lead and a helper of a job, which both have begun their leases."""
    sim.fill()
    sim.look()
    busy = [worker for worker in sim.workers if worker.queue and sim.dispatch.job_of.get(worker) is job]
    for worker in busy:
        worker.begin()
    (lead,) = [worker for worker in busy if worker.is_lead]
    (helper,) = [worker for worker in busy if not worker.is_lead]
    return lead, helper


def lease_of(worker: SimulatedWorker) -> tuple[int, int]:
    """The lease that a worker holds."""
    assert worker.queue[0][1] == "lease"
    start, end = worker.queue[0][3]
    return start, end


def all_answer(sim: Simulation) -> None:
    """Let everybody answer until all jobs have ended."""
    for _ in range(200):
        sim.fill()
        for worker in list(sim.workers):
            if worker.is_killed:
                worker.die()
            elif worker.queue:
                if not worker.begun:
                    worker.begin()
                worker.answer()
        if not sim.registry.unended:
            return
    raise AssertionError("\n".join(map(sim.describe, sim.registry.running)))


def test_worker_when_done_then_it_gets_half_of_what_the_other_has_not_claimed() -> None:
    """Even where the job has all of its workers, so that no other worker could join."""

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(LEASED[READER], TOTAL, threads=2)
        lead, helper = begun(sim, job)
        assert lease_of(lead) == (0, TOTAL // 2)
        lead.claim, lead.at = 20, (lead.at[0], 16)
        await asyncio.sleep(0.01)
        helper.answer()
        assert lease_of(lead) == (0, 110)
        assert lease_of(helper) == (110, 200)
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_lease_when_almost_done_then_not_divided() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(LEASED[READER], TOTAL, threads=2, chunk=10)
        lead, helper = begun(sim, job)
        lead.claim = lease_of(lead)[1] - 2 * QUANTUM
        helper.answer()
        assert not helper.queue
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)


@pytest.mark.parametrize("seed", range(5))
def test_lease_when_accesses_cannot_be_ordered_then_never_shortened_and_the_job_ends(seed: int) -> None:
    random = Random(seed)

    async def story(sim: Simulation) -> None:
        sim.fill()
        verbs: list[str] = []
        sim.on_send = lambda _, verb, __: verbs.append(verb)
        for worker in sim.workers:
            worker.is_ordered = False
        jobs = [sim.submit(LEASED[kind], TOTAL, threads=2) for kind in (READER, WRITER)]
        for _ in range(100):
            busy = [worker for worker in sim.workers if worker.queue]
            if not busy:
                break
            worker = random.choice(busy)
            worker.begin()
            worker.answer()
            await asyncio.sleep(0.01)
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2
        assert "shorten" not in verbs

    play(story)


def test_helper_when_starved_then_the_lead_gets_all_but_what_it_has_claimed_at_once() -> None:
    """Without an answer of the helper, which cannot run."""

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(LEASED[READER], TOTAL, threads=2)
        lead, helper = begun(sim, job)
        start, end = lease_of(helper)
        helper.share, helper.claim, helper.at = 0.0, start + QUANTUM, (helper.at[0], start)
        await asyncio.sleep(0.2)
        assert lease_of(helper) == (start, start + QUANTUM)
        assert helper.recalled
        lead.answer()
        got = [lease_of(lead)]
        while got[-1][1] < end:
            lead.begin()
            lead.answer()
            got.append(lease_of(lead))
        assert (got[0][0], got[-1][1]) == (start + QUANTUM, end)
        helper.answer(whole=False)
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)


@pytest.mark.parametrize("kind", [READER, REWRITER])
def test_lease_when_its_worker_dies_after_reports_then_run_again_from_the_last_one(kind: Declaration) -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(LEASED[kind], TOTAL, threads=2)
        _lead, helper = begun(sim, job)
        start, end = lease_of(helper)
        helper.at, helper.claim = (helper.at[0], start + 30), start + 30 + QUANTUM
        sim.touch(job.jno, start, start + 30)
        helper.report()
        helper.at = (helper.at[0], start + 32)
        sim.touch(job.jno, start + 30, start + 32)
        before = job.completed
        assert before == 30
        helper.die()
        assert job.completed == before
        given = [lease_of(worker) for worker in sim.workers if worker.queue and not worker.is_lead]
        assert job.left + sum(after - first for first, after in given) == end - (start + 30)
        assert job.tally.retried == 1
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_lease_of_a_writer_when_its_worker_dies_after_reports_then_all_is_undone() -> None:
    """The reported part by the books, the rest up to the claim as well; nothing else is dirty."""

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(LEASED[WRITER], TOTAL, threads=2)
        _, helper = begun(sim, job)
        start, _ = lease_of(helper)
        helper.at, helper.claim = (helper.at[0], start + 30), start + 30 + QUANTUM
        sim.touch(job.jno, start, start + 30)
        helper.report()
        helper.die()
        assert job.error is not None
        assert job.error.chunk is not None
        assert (job.error.chunk.start, job.error.chunk.end) == (start + 30, start + 30 + QUANTUM)
        all_answer(sim)
        assert job.state is JobState.FAILED
        assert not job.positions.dirty

    play(story)


def test_job_when_another_arrives_then_it_gets_a_worker_at_once() -> None:
    """A lease without a limit of time is recalled; the next ones have one."""

    async def story(sim: Simulation) -> None:
        slices: list[str] = []
        sim.on_send = lambda _, verb, what: slices.append(what) if verb == "lease" else None
        sim.fill()
        first = sim.submit(LEASED[READER], 100 * TOTAL, threads=3, waited=False)
        sim.fill()
        assert [what.split("slice=")[1].split()[0] for what in slices] == ["0", "0"]
        holders = [worker for worker in sim.workers if worker.queue]
        second = sim.submit(LEASED[READER], TOTAL, threads=3, waited=False, uid=2)
        assert all(worker.recalled for worker in holders)
        for worker in holders:
            worker.begin()
            worker.answer(whole=False)
        assert any(sim.dispatch.job_of.get(worker) is second for worker in sim.workers)
        assert float(slices[-1].split("slice=")[1].split()[0]) >= CHUNK_TIME_TARGET_S
        all_answer(sim)
        assert [first.state, second.state] == [JobState.SUCCEEDED] * 2

    play(story)


LIES = {
    "of another lease": lambda seq, start, end: LeaseDone(seq + 5, start, 0, b""),
    "beyond the end": lambda seq, start, end: LeaseDone(seq, end + 1, 0, b""),
    "backwards": lambda seq, start, end: LeaseDone(seq, start - 1, 0, b""),
    "no result": lambda seq, start, end: LeaseDone(seq, start + 1, 0, b"[]"),
}


@pytest.mark.parametrize("lie", LIES)
def test_report_when_a_lie_then_its_worker_is_killed_and_nothing_is_recorded(lie: str) -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(LEASED[READER], TOTAL, threads=2)
        _, helper = begun(sim, job)
        sim.engine.on_report(helper, LIES[lie](helper.queue[0][0], *lease_of(helper)))
        assert helper.is_killed
        assert job.completed == 0
        helper.die()
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)


def test_report_when_for_a_chunk_then_its_worker_is_killed() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(READER, TOTAL, threads=2)
        worker = next(worker for worker in sim.workers if worker.queue)
        worker.begin()
        seq, _, _, (start, _) = worker.queue[0]
        sim.engine.on_report(worker, LeaseDone(seq, start + 1, 0, b'{"n": 1}'))
        assert worker.is_killed
        worker.die()
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)


@pytest.mark.parametrize("claim", [0, 1, 10**12])
def test_claim_when_a_lie_then_the_books_stay_right_and_the_job_ends(claim: int) -> None:
    """It can only name positions of its own lease, or keep all of it."""

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(LEASED[READER], TOTAL, threads=2)
        lead, helper = begun(sim, job)
        helper.claim = claim
        lead.answer()
        sim.look()
        start, end = lease_of(helper)
        assert 0 <= start < end <= TOTAL
        all_answer(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)
