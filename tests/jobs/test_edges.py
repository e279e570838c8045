"""Rare turns in the engine's story, each played step by step with simulated workers.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from random import Random
from typing import cast

import pytest

from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Level
from ktaskd.model.function import Access, SourceRole
from ktaskd.model.job import JobState
from ktaskd.worker.frames import Done
from tests.jobs.byhand import do, finish, worker_of
from tests.jobs.leaploop import pending
from tests.jobs.simulated import KEEP_S, READER, STEPS, WRITER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker


def test_raised_helper_when_it_dies_then_its_pid_is_left_alone() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(WRITER, 10, threads=2, chunk=10, waited=False)
        helper = worker_of(sim, lead=False)
        helper.begin()
        helper.share = 0.0
        sim.engine.cancel(job)
        await asyncio.sleep(0.2)
        assert helper.record.raised
        helper.die()  # lowering it now would raise here: the simulation knows no such pid
        sim.fill()
        finish(sim)
        assert job.state is JobState.CANCELLED or job.state is JobState.DIRTY

    play(story)


def test_helper_when_raised_only_in_part_then_lowered_when_it_has_answered() -> None:
    async def story(sim: Simulation) -> None:
        sim.raiser.works = lambda: False
        sim.fill()
        job = sim.submit(WRITER, 10, threads=2, chunk=10, waited=False)
        helper = worker_of(sim, lead=False)
        helper.begin()
        helper.share = 0.0
        sim.engine.cancel(job)
        await asyncio.sleep(0.2)
        assert helper.is_high
        assert not helper.record.raised
        sim.raiser.works = lambda: True
        helper.answer(whole=False)
        finish(sim)
        assert not helper.is_high

    play(story)


def test_guest_when_it_starts_slowly_for_the_last_step_then_it_is_waited_for() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(READER, 10, waited=False, guest=True)
        sim.fill()
        guest = worker_of(sim, lead=False)
        guest.begin()
        guest.answer()
        worker_of(sim, lead=False).die(11)  # in the step that combines
        assert sim.workers[-1].memory_group
        assert not sim.workers[-1].is_ready
        await asyncio.sleep(3.0)
        sim.fill()
        finish(sim)
        assert job.state is JobState.SUCCEEDED

    play(story)


@pytest.mark.parametrize("item", [7, "seven", ["seven"], None])
def test_result_of_an_item_when_it_is_no_object_then_its_worker_is_killed(item: object) -> None:
    """Code that is not ours may send anything in its worker's name."""
    role = SourceRole("data", Access.READ, "The source.")

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(replace(READER, steady=True, sources=(role,)), 10)
        job.counts_items = True
        worker = worker_of(sim, lead=True)
        worker.begin()
        (seq, _, _, (start, end)), *_ = worker.queue
        part = json.dumps({"items": [item] * (end - start)}).encode()
        sim.engine.on_done(worker, Done(seq, end, 1, part))
        assert worker.is_killed
        assert not job.completed
        job.counts_items = False
        worker.die()
        sim.fill()
        finish(sim)

    play(story)


def test_result_when_too_large_and_the_rest_is_given_back_then_the_job_ends_once() -> None:
    """The answer is noted whole before the job is stopped: nothing of it is noted of one that has ended."""

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(replace(READER, combine=True), 100, threads=1, chunk=100)
        lead = worker_of(sim, lead=True)
        lead.begin()
        lead.get_on(Random(7))
        sim.registry.live.most = 0
        lead.answer(whole=False)
        finish(sim)
        assert (job.state, job.error and job.error.reason) == (JobState.FAILED, "RESULT_TOO_LARGE")

    play(story)


def test_result_when_too_large_then_the_undo_is_the_next_leads_alone() -> None:
    async def story(sim: Simulation) -> None:
        sim._leads_wanted = 2
        sim.fill()
        job = sim.submit(replace(WRITER, combine=True), 10, threads=1, chunk=10)
        for worker in [worker for worker in sim.workers if not worker.is_lead]:
            sim.dispatch.remove(worker)  # busy elsewhere, so that another lead does the undo
        sim.registry.live.most = 0
        do(worker_of(sim, lead=True))
        assert job.crew.step_worker is not None, "it is being undone"
        assert job.crew.lead is job.crew.step_worker
        finish(sim)
        assert job.state is JobState.FAILED

    play(story)


def test_result_when_too_large_then_the_chunk_that_it_was_of_is_undone_too() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(replace(WRITER, combine=True), 10, threads=1, chunk=10)
        sim.registry.live.most = 0
        do(worker_of(sim, lead=True))
        finish(sim)
        error = view.full_error(job)
        assert error is not None
        assert error.reason == "RESULT_TOO_LARGE"
        assert job.state is JobState.FAILED
        assert [(span.start, span.end) for span in job.positions.undone] == [(0, 10)]

    play(story)


def test_lead_when_paced_and_much_happens_then_one_timer_for_its_job() -> None:
    async def story(sim: Simulation) -> None:
        sim.engine.set_allowance(replace(sim.full, leads_per_uid=1))
        sim.fill()
        # The first uid, which had less, has all the leads that it may have and wants one more.
        sim.submit(uid=1, threads=1)
        sim.submit(uid=1, threads=1)
        had = sim.submit(uid=2, threads=1)
        sim.dispatch.shares.charge(2, 100.0)
        sim.engine.cancel(had)
        sim.dispatch.pacer.charge((2, 7), 1.0, 0.01, sim.loop.time())
        sim._want_leads(2)
        sim.fill()
        job = sim.submit(uid=2, pid=7, quota=0.01, threads=1)
        for _ in range(50):
            sim.dispatch.pump()
        assert sum("_go_on" in repr(timer) for timer in pending(sim.loop)) == 1
        sim.engine.cancel(job)
        finish(sim)
        await asyncio.sleep(200)

    play(story)


def test_lead_when_its_callers_quota_is_lifted_then_it_goes_on_at_once() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        sim.dispatch.pacer.charge((1, 1), 10.0, 0.01, sim.loop.time())
        job = sim.submit(quota=0.01, threads=1)
        assert job.paced_until_s
        sim.set_quota(job, 0.0)
        await asyncio.sleep(0)
        assert job.crew.lead is not None
        finish(sim)
        await asyncio.sleep(2000)

    play(story)


def test_step_when_no_helper_is_allowed_and_no_lead_is_there_then_a_lead_is_started() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        none = {nid: 0 for nid in sim.full.helpers}
        sim.engine.set_allowance(replace(sim.full, helpers=none, level=Level.LEADS_ONLY))
        first = sim.submit(READER, 10, threads=1)
        second = sim.submit(STEPS, 10, threads=1)
        assert first.crew.lead is not None
        sim.fill()  # what was asked for
        assert second.crew.step_worker is not None
        finish(sim)

    play(story, leads=2)


def test_chunk_when_it_kills_the_lead_each_time_while_a_helper_holds_it_then_the_job_fails() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(READER, 20, threads=2, chunk=10)
        helper = worker_of(sim, lead=False)
        helper.begin()
        helper.share = 0.0
        do(worker_of(sim, lead=True))
        deaths = 0
        while job.state is JobState.RUNNING and deaths < 10:
            await asyncio.sleep(0.2)
            lead = worker_of(sim, lead=True)
            lead.begin()
            lead.die(11)
            deaths += 1
            sim.fill()
        assert deaths == 3
        helper.answer(whole=False)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.reason == "WORKER_LOST"

    play(story)


def test_guest_when_none_can_be_had_then_other_jobs_get_their_leads_and_it_is_tried_again() -> None:
    async def story(sim: Simulation) -> None:
        sim.guests_max = 0
        sim.fill()
        guest = sim.submit(READER, 10, threads=1, guest=True)
        other = sim.submit(READER, 10, threads=1)
        assert other.crew.lead is not None
        finish(sim)
        sim.guests_max = 1
        await asyncio.sleep(3.0)
        assert guest.guest.worker is not None
        sim.fill()
        finish(sim)
        assert guest.state is JobState.SUCCEEDED

    play(story)


def test_helpers_when_they_may_work_half_of_the_time_then_none_begins_for_as_long_as_one_worked() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        sim.engine.set_allowance(replace(sim.full, helpers={0: 1}, level=Level.FEWER, duty=0.5))
        job = sim.submit(READER, 40, waited=False)
        began_s = sim.loop.time()
        for _ in range(100):
            assert len(job.crew.helpers) <= 1
            finish(sim)
            assert not job.crew.helpers, "it goes on at once"
            if job.state.ended:
                break
            await asyncio.sleep(0.0005)
        assert job.state is JobState.SUCCEEDED
        # All answers of simulated workers say that it took 2 ms.
        assert job.tally.chunks_done * 0.002 <= sim.loop.time() - began_s + 0.003

    play(story)


def test_helpers_when_they_may_work_all_the_time_again_then_at_once() -> None:
    async def story(sim: Simulation) -> None:
        sim.fill()
        sim.engine.set_allowance(replace(sim.full, helpers={0: 1}, level=Level.FEWER, duty=0.001))
        job = sim.submit(READER, 40, waited=False)
        for worker in tuple(job.crew.helpers):
            do(cast(SimulatedWorker, worker))
        assert not job.crew.helpers
        sim.engine.set_allowance(sim.full)
        assert len(job.crew.helpers) == 2
        finish(sim)

    play(story)


def test_ended_job_when_the_clock_is_set_then_it_is_kept_as_long_as_ever() -> None:
    """By hand, or by a time server after a start with a wrong clock: forward or back."""

    async def story(sim: Simulation) -> None:
        sim.fill()
        for jump_s in (10 * KEEP_S, -10 * KEEP_S):
            sim.wall = lambda to=jump_s: sim.loop.time() + to  # type: ignore[misc]
            job = sim.submit(READER, 1, threads=1, chunk=1, waited=False)
            finish(sim)
            assert job.state.ended
            sim.wall = lambda to=jump_s: sim.loop.time() - to  # type: ignore[misc]
            await asyncio.sleep(KEEP_S - 1.0)
            assert job.id in sim.registry._by_id
            await asyncio.sleep(2.0)
            assert job.id not in sim.registry._by_id

    play(story)


def test_job_when_its_end_cancels_another_job_then_both_end_once() -> None:
    """An event within an event waits for the end of the outer one."""

    async def story(sim: Simulation) -> None:
        first, second = (sim.submit(WRITER, 40, waited=False) for _ in range(2))
        states: list[JobState] = []

        def on_change(job: Job) -> None:
            states.append(job.state)
            if job.state.ended:
                sim.engine.cancel(first)
                sim.engine.cancel(second)

        first.watch(on_change)
        sim.engine.cancel(first)
        assert states == [JobState.DRAINING, JobState.UNDOING, JobState.CANCELLED]
        assert second.state is JobState.CANCELLED
        assert sim.engine.counters["jobs_cancelled"] == 2

    play(story)


def test_job_when_a_bug_breaks_its_entry_off_then_it_does_not_go_on_as_if_that_was_done() -> None:
    async def story(sim: Simulation) -> None:
        job, other = (sim.submit(WRITER, 40, waited=False) for _ in range(2))
        job.positions.begin_undo = None  # type: ignore[method-assign, assignment]
        with pytest.raises(TypeError):
            sim.engine.cancel(job)
        sim.engine.cancel(other)
        assert other.state is JobState.CANCELLED
        assert job.state is JobState.UNDOING, "it is neither undone nor named dirty"

    play(story)
