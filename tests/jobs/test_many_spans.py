"""Undo of what is in very many pieces: exact, named in part, and in short turns.

Guards: I12
Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import asyncio
import mmap
import os
from dataclasses import replace

import pytest

from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.job import JobError, JobSpec, JobState
from ktaskd.model.limits import POSITION_MAX, SPANS_LISTED
from ktaskd.model.spans import Span, SpanSet
from ktaskd.planner.undo import HOLES_PER_STEP
from ktaskd.pool.link import Worker
from ktaskd.worker.messages import Prior, Report
from tests.jobs.realjobs import Memory, RealJobs, real_jobs, run
from tests.jobs.simulated import WRITER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker

PAGE = mmap.PAGESIZE
PAIRS = 4000


def isolated_pages(h: RealJobs) -> Memory:
    """Memory of which every other page is a hole."""
    memory = h.memory(0)
    for i in range(PAIRS):
        os.pwrite(memory.fd, b"old", 2 * i * PAGE)
    os.truncate(memory.fd, 2 * PAIRS * PAGE)
    return memory


async def failed_copy(h: RealJobs, target: Memory, *, remembers: bool) -> tuple[Job, JobError]:
    """A copy over it of a source that grows meanwhile, which is seen when all is copied."""
    source = h.memory(b"new!" * (2 * PAIRS * PAGE // 4))

    def on_report(worker: Worker, report: Report) -> None:
        if isinstance(report, Prior):
            os.truncate(source.fd, 2 * PAIRS * PAGE + 1)
        RealJobs.on_report(h, worker, report)

    h.on_report = on_report  # type: ignore[method-assign]
    spec = JobSpec("file.copy", sources={"src": source.ref, "dst": target.ref}, max_threads=1)
    job = await h.submit(spec)
    if not remembers:
        h.registry.live.most = 2 * h.registry.live.total
    await h.ended(job)
    error = view.full_error(job)
    assert error is not None
    assert job.state is JobState.DIRTY
    return job, error


def test_undo_when_it_has_many_pieces_then_its_owner_is_charged_for_what_the_loop_does() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            costs: list[tuple[int, float]] = []
            h.engine.on_cost = lambda who, cost_s: costs.append((who.payer, cost_s))
            target = isolated_pages(h)
            job, _ = await failed_copy(h, target, remembers=True)
            assert len(costs) > 2 * PAIRS // HOLES_PER_STEP, "each report of holes, and each step of the undo"
            assert {account for account, _ in costs} == {job.owner.payer}
            assert all(cost_s > 0 for _, cost_s in costs)

    run(story())


def test_undo_when_there_are_thousands_of_holes_then_exact_and_the_first_are_named() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            target = isolated_pages(h)
            before = target.read()
            _, error = await failed_copy(h, target, remembers=True)
            after = target.read()
            assert len(error.dirty) == len(error.undone) == SPANS_LISTED
            assert error.dirty_omitted > SPANS_LISTED
            assert error.undone_omitted > SPANS_LISTED
            assert error.dirty_hull is not None
            assert error.dirty_hull.start == error.dirty[0].start == 0
            assert error.dirty_hull.end > error.dirty[-1].end
            assert error.undone_hull is not None
            start, end = error.dirty_hull.start, error.dirty_hull.end
            assert (after[:start], after[end:]) == (before[:start], before[end:])
            assert all(not any(after[i : i + PAGE]) for i in range(PAGE, len(after), 2 * PAGE)), (
                "holes are back"
            )
            assert h.registry.live.total == 0

    run(story())


def test_undo_when_holes_may_not_be_remembered_then_what_was_written_is_dirty() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            target = isolated_pages(h)
            before = target.read()
            job, error = await failed_copy(h, target, remembers=False)
            after = target.read()
            dirty = SpanSet(job.positions.dirty)
            assert not error.dirty_omitted
            changed = [i for i in range(0, len(after), PAGE) if after[i : i + PAGE] != before[i : i + PAGE]]
            assert changed
            assert all(dirty.covers(i, i + PAGE) for i in changed)

    run(story())


def priors(worker: SimulatedWorker, count: int) -> None:
    """Tell of so many holes, each of one position in two, in frames of a thousand."""
    for first in range(0, count, HOLES_PER_STEP):
        holes = [[2 * i, 2 * i + 1] for i in range(first, first + HOLES_PER_STEP)]
        end = 2 * (first + HOLES_PER_STEP)
        worker.sim.on_report(worker, Prior(worker.queue[0][0], 2 * first, end, holes))


def stopped(sim: Simulation) -> Job:
    """A job that has written all and is undone, with ten thousand holes to be put back."""
    sim.fill()
    job = sim.submit(replace(WRITER, reports=True), 20_000, threads=1, chunk=20_000)
    lead = holder(sim)
    lead.begin()
    priors(lead, 10_000)
    sim.engine.cancel(job)
    lead.answer()
    assert len(job.positions.holes) == 10_000
    assert job.state is JobState.UNDOING
    return job


def holder(sim: Simulation) -> SimulatedWorker:
    return next(worker for worker in sim.workers if worker.queue)


def test_undo_when_it_takes_many_steps_then_one_call_waits_at_a_time() -> None:
    async def story(sim: Simulation) -> None:
        job = stopped(sim)
        steps = 0
        while job.state is not JobState.CANCELLED:
            assert job.step is not None
            worker = holder(sim)
            worker.begin()
            worker.answer()
            steps += 1
        assert steps >= 10
        assert list(job.positions.undone) == [Span(0, 20_000)]

    play(story)


@pytest.mark.parametrize("steps", [0, 3])
def test_undo_when_its_worker_is_given_up_then_what_was_not_begun_is_dirty_too(steps: int) -> None:
    async def story(sim: Simulation) -> None:
        job = stopped(sim)
        for _ in range(steps):
            worker = holder(sim)
            worker.begin()
            worker.answer()
        worker = holder(sim)
        worker.begin()
        worker.runnable, worker.share = False, 0.0
        await asyncio.sleep(60.0)
        assert job.state is JobState.DIRTY
        done = 2 * HOLES_PER_STEP * steps
        assert job.positions.dirty.covers(done, 20_000)
        worker.die()

    play(story)


def test_holes_when_told_again_then_what_was_seen_first_counts() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(replace(WRITER, reports=True), 100, threads=1, chunk=100)
        lead = holder(sim)
        lead.begin()
        for start, end, holes in ((0, 20, [[0, 5]]), (10, 40, [[10, 30]]), (0, 50, [[0, 50]])):
            sim.on_report(lead, Prior(lead.queue[0][0], start, end, holes))
        assert list(job.positions.holes) == [Span(0, 5), Span(20, 30), Span(40, 50)]
        assert job.positions.reported.covers(0, 50)
        assert not job.positions.holes.overlaps(50, POSITION_MAX)
        sim.engine.cancel(job)
        while not job.state.ended:
            worker = holder(sim)
            worker.begin()
            worker.answer(whole=False)

    play(story)
