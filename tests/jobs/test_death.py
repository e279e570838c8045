"""Workers and pool hosts that die: what becomes of their job, and of the others.

Guards: I6
Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import os
import random
import signal
import zlib
from dataclasses import replace

import pytest

from ktaskd.intake import submit
from ktaskd.jobs import feed, view
from ktaskd.model.function import Partial
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.limits import ATTEMPTS_MAX
from ktaskd.model.spans import Span
from ktaskd.pool.link import Worker
from tests.jobs.realjobs import MIB, RealJobs, real_jobs, run
from tests.jobs.simulated import WRITER, Simulation, play
from tests.jobs.test_failure import SIZE, on_state, positions, undo_log

BIG = 192 * MIB
"""Holes, so that it takes no memory."""
BIG_CRC = zlib.crc32(bytes(BIG))


def workers(h: RealJobs) -> list[Worker]:
    return [worker for pool in h.pools for worker in pool.workers]


def stop_all(h: RealJobs) -> list[int]:
    """No worker reads anything any more."""
    pids = [worker.pid for worker in workers(h) if worker.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("waited", [True, False])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_job_when_a_position_kills_workers_then_fails_and_others_do_not_notice(
    waited: bool, number: signal.Signals
) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            other = await h.submit(
                JobSpec("selftest.spin", arg={"ms": 1}, ranges=(RangeSpec(0, 100),)), waited=not waited
            )
            arg = {"at": 7, "signal": int(number)}
            job = await h.run(JobSpec("selftest.crash", arg=arg, ranges=(RangeSpec(0, 20),)), waited=waited)
            error = view.full_error(job)
            assert job.state is JobState.FAILED
            assert error is not None
            assert (error.reason, error.signal) == ("WORKER_LOST", int(number))
            assert f"killed by {number.name}" in error.message
            assert error.chunk is not None
            assert error.chunk.start <= 7 < error.chunk.end
            assert [death.signal for death in h.deaths] == [int(number)] * len(h.deaths)
            assert job.tally.retried == len(h.deaths) - 1 >= ATTEMPTS_MAX - 1
            await h.ended(other)
            assert (other.state, other.tally.retried) == (JobState.SUCCEEDED, 0)
            await h.until(lambda: h.at_rest)

    run(story())


@pytest.mark.parametrize("waited", [True, False])
def test_reader_when_workers_and_pool_hosts_are_killed_then_the_right_result(waited: bool) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(BIG)
            kills = reruns = 0
            while kills < 6 or (not reruns and kills < 60):  # some land when all is done
                spec = JobSpec("file.crc32", sources={"data": memory.ref}, max_threads=3)
                job = await h.submit(spec, waited=waited)
                await h.until(lambda job=job: h.holders(job) or job.state.ended)  # type: ignore[misc]
                for worker in h.holders(job)[:1]:
                    kills += 1
                    if kills % 3:
                        worker.kill()
                        continue
                    pool = h.pools[-1] if worker.is_lead else h.pools[0]
                    os.kill(pool.host_pid, signal.SIGKILL)
                await h.ended(job)
                assert view.full_result(job) == {"crc32": BIG_CRC, "bytes": BIG}, view.full_error(job)
                reruns += job.tally.retried
                await h.until(lambda: h.at_rest)
            assert reruns
            await h.until(lambda: sum(pool.host_respawns for pool in h.pools) == kills // 3)

    run(story())


def test_fill_when_workers_are_killed_then_every_byte_is_there() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(16 * MIB)
            while not h.deaths:
                value = random.randrange(1, 256)
                job = await h.submit(
                    JobSpec("mem.fill", arg={"value": value}, sources={"data": memory.ref}), waited=False
                )
                await h.until(lambda job=job: h.holders(job) or job.state.ended)  # type: ignore[misc]
                for worker in h.holders(job):
                    worker.kill()
                await h.ended(job)
                assert job.state is JobState.SUCCEEDED
                assert memory.read() == bytes([value]) * (16 * MIB)

    run(story())


def test_writer_when_its_worker_is_killed_and_undo_tolerates_then_all_is_undone() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(SIZE)
            job = await h.submit(undo_log(memory, delay_ms=1.0))
            worker = await h.begun(job)
            await h.until(lambda: worker.beats > 5)
            worker.kill()
            await h.ended(job)
            error = view.full_error(job)
            assert job.state is JobState.FAILED
            assert error is not None
            assert (error.reason, error.signal, error.dirty) == ("WORKER_LOST", 9, ())
            content = memory.read()
            assert {i for i, byte in enumerate(content) if byte} == positions(error.undone)
            assert set(content) <= {0, 16, 17}, "16: undone in the lost chunk, and not begun"

    run(story())


def test_writer_when_its_worker_is_killed_and_undo_is_declined_then_the_chunk_is_dirty() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(SIZE)
            job = await h.submit(undo_log(memory, delay_ms=1.0, undo=False))
            worker = await h.begun(job)
            await h.until(lambda: worker.beats > 5)
            worker.kill()
            await h.ended(job)
            error = view.full_error(job)
            assert job.state is JobState.DIRTY
            assert error is not None
            assert {i for i, byte in enumerate(memory.read()) if byte} <= positions(error.dirty)

    run(story())


def test_undo_when_its_worker_is_killed_then_what_it_had_not_reached_is_dirty() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            size = 60_000
            memory = h.memory(size)
            job = await h.submit(undo_log(memory, fail_at=size - 1))
            await h.until(lambda: h.state(job) is JobState.UNDOING and h.holders(job))
            worker = h.holders(job)[0]
            worker.kill()
            await h.ended(job)
            error = view.full_error(job)
            assert error is not None
            assert job.state is JobState.DIRTY
            assert error.reason == "FUNCTION_ERROR", "the first reason counts"
            content, dirty = memory.read(), positions(error.dirty)
            assert dirty
            assert all(content[position] == 17 for position in positions(error.undone))
            assert {i for i, byte in enumerate(content) if byte not in (0, 17)} <= dirty

    run(story())


SPECS = ["file.crc32", "file.copy", "selftest.undo_log"]


def all_of(h: RealJobs, function: str) -> JobSpec:
    source, target = h.memory(b"abc" * 1000), h.memory(0)
    roles = {"src": source.ref, "dst": target.ref} if function == "file.copy" else {"data": source.ref}
    arg = {"pattern": "b"} if function == "text.search" else {}
    return JobSpec(function, arg=arg, sources=roles)


@pytest.mark.parametrize("function", SPECS)
def test_job_when_workers_die_before_they_begin_then_done_by_others(function: str) -> None:
    """The first step is a chunk, or the prepare of a copy."""

    async def story() -> None:
        async with real_jobs() as h:
            for _ in range(2):
                pids = stop_all(h)
                job = await h.submit(all_of(h, function))
                assert job.crew.busy
                kill_all(pids)
                await h.ended(job)
                assert job.state is JobState.SUCCEEDED, view.full_error(job)
                assert job.tally.retried == 0
                await h.until(lambda: h.at_rest)

    run(story())


@pytest.mark.parametrize("function", ["text.search", "file.copy"])
def test_job_when_workers_die_before_its_last_step_then_done_by_others(function: str) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.submit(all_of(h, function))
            pids: list[int] = []
            on_state(job, JobState.COMBINING, lambda: pids.extend(stop_all(h)))
            await h.until(lambda: pids and job.crew.step_worker)
            kill_all(pids)
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED, view.full_error(job)

    run(story())


def test_cancel_when_prepare_was_not_begun_then_nothing_is_dirty() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            pids = stop_all(h)
            job = await h.submit(all_of(h, "file.copy"))
            h.engine.cancel(job)
            kill_all(pids)
            await h.ended(job)
            assert job.state is JobState.CANCELLED

    run(story())


def test_items_when_their_note_kills_workers_then_the_job_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """More items than one frame holds: a worker ends before it has begun the chunk."""
    for module in (feed, submit):
        monkeypatch.setattr(module, "ITEMS_PER_CHUNK", 100_000)

    async def story() -> None:
        async with real_jobs() as h:
            refs = (h.memory(b"abc").ref,) * 40_000
            job = await h.run(replace(JobSpec("file.crc32", items=refs), min_chunk=40_000))
            error = view.full_error(job)
            assert job.state is JobState.FAILED
            assert error is not None
            assert error.reason == "WORKER_LOST"
            assert len(h.deaths) == ATTEMPTS_MAX
            await h.until(lambda: h.at_rest)

    run(story())


def test_chunk_when_another_of_its_dead_worker_stops_the_job_then_it_goes_back() -> None:
    """A chunk that may not be run again stops its job; the chunks behind it were not begun."""

    async def story(sim: Simulation) -> None:
        sim.fill()
        job = sim.submit(replace(WRITER, undo=False, partial=Partial.NONE), 80, threads=1, chunk=10)
        (lead,) = (worker for worker in sim.workers if worker.queue)
        lead.begin()
        lead.answer()
        assert len(lead.queue) > 1
        lead.begin()
        lead.die()
        assert job.state is JobState.DIRTY
        assert list(job.positions.dirty) == [Span(0, 20)]
        assert view.progress(job).positions_done == 10

    play(story, leads=1)
