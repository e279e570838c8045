"""Jobs that fail, are stopped or cancelled: what is undone, and that nothing is left.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import Event
from ktaskd.jobs.registry import JobLimits
from ktaskd.model.errors import Draining, KtaskError, QuotaFull
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.spans import Span
from tests.jobs.realjobs import ME, MIB, STRANGER, Memory, RealJobs, real_jobs, run

SIZE = 4000
TOUCHED, UNDONE = 1, 17
"""selftest.undo_log adds 1 to a byte that it does, and 16 to one that it undoes."""


def undo_log(memory: Memory, *, delay_ms: float = 0.0, fail_at: int = -1, **more: object) -> JobSpec:
    arg = {"fail_at": fail_at, "delay_ms": delay_ms, "record": 10}
    spec = JobSpec("selftest.undo_log", arg=arg, sources={"data": memory.ref}, min_chunk=50)
    return replace(spec, **more)  # type: ignore[arg-type]


def positions(spans: tuple[Span, ...]) -> set[int]:
    return {position for span in spans for position in range(span.start, span.end)}


def check_log(memory: Memory, job: Job) -> None:
    """Each byte was done and undone once, or neither; the job says which."""
    content = memory.read()
    error = view.full_error(job)
    assert error is not None
    assert set(content) <= {0, UNDONE}
    assert error.dirty == ()
    undone = positions(error.undone)
    assert all(content[position] == UNDONE for position in undone)


@pytest.mark.parametrize("waited", [True, False])
@pytest.mark.parametrize("fail_at", [0, 1777, SIZE - 1])
def test_job_when_one_chunk_fails_then_every_completed_one_is_undone_once(fail_at: int, waited: bool) -> None:
    """Guards: I1"""

    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(SIZE)
            job = await h.run(undo_log(memory, fail_at=fail_at), waited=waited)
            assert job.state is JobState.FAILED
            check_log(memory, job)
            error = view.full_error(job)
            assert error is not None
            assert (error.reason, error.errno) == ("FUNCTION_ERROR", errno.EIO)
            assert f"failed at position {fail_at}" in error.message
            assert "OSError" in error.exception
            assert error.chunk is not None
            assert error.chunk.start <= fail_at < error.chunk.end
            assert fail_at not in positions(error.undone)
            # The worker of the failed chunk has put back what it had done.
            content = memory.read()
            own = set(range(error.chunk.start, fail_at))
            assert {i for i, byte in enumerate(content) if byte == UNDONE} == positions(error.undone) | own

    run(story())


def test_job_when_undo_is_declined_then_what_was_done_is_dirty() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(SIZE)
            job = await h.run(undo_log(memory, fail_at=SIZE - 1, max_threads=1, undo=False))
            assert job.state is JobState.DIRTY
            error = view.full_error(job)
            assert error is not None
            assert error.undone == ()
            content = memory.read()
            assert positions(error.dirty) == {i for i, byte in enumerate(content) if byte == TOUCHED}

    run(story())


def test_job_when_a_source_became_shorter_then_says_so() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(bytes(2 * MIB))
            spin = await h.submit(
                JobSpec("selftest.spin", arg={"ms": 30}, ranges=(RangeSpec(0, 1),), max_threads=1)
            )
            job = await h.submit(
                replace(JobSpec("file.crc32", sources={"data": memory.ref}), max_threads=1), waited=False
            )
            os.truncate(memory.fd, 10)
            await h.ended(job, spin)
            error = view.full_error(job)
            assert error is None or (error.errno == errno.ENODATA and "ends at 10" in error.message)

    run(story())


def test_function_when_it_reads_only_then_its_failure_leaves_nothing_dirty() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            arg = {"at": 500, "errno": errno.ENOSPC}
            job = await h.run(
                JobSpec("selftest.fail", arg=arg, ranges=(RangeSpec(0, 1000, -1),), min_chunk=1)
            )
            error = view.full_error(job)
            assert job.state is JobState.FAILED
            assert error is not None
            assert (error.errno, error.undone, error.dirty) == (errno.ENOSPC, (), ())

    run(story())


def test_copy_when_it_fails_then_the_target_is_as_before() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            content = random.Random(2).randbytes(3 * MIB)
            source, target = h.memory(content), h.memory(MIB)
            spec = JobSpec("file.copy", sources={"src": source.ref, "dst": target.ref}, min_chunk=4096)
            job = await h.submit(spec, waited=False)
            await h.until(lambda: job.tally.chunks_done > 0 or job.state.ended)
            h.engine.cancel(job)
            await h.ended(job)
            if job.state is JobState.CANCELLED:
                assert target.read() == bytes(MIB), "as long as before, and as empty"
            else:
                assert target.read() == content

    run(story())


# -- cancel ------------------------------------------------------------------------


def slow_log(memory: Memory) -> JobSpec:
    return undo_log(memory, delay_ms=0.2, ranges=(RangeSpec(0, SIZE),))


def test_cancel_when_queued_then_ends_at_once_and_nothing_ran() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1, leads=1) as h:
            busy = await h.submit(
                JobSpec("selftest.spin", arg={"ms": 3_600_000}, ranges=(RangeSpec(0, 1),)), waited=False
            )
            await h.begun(busy)
            memory = h.memory(SIZE)
            job = await h.submit(undo_log(memory), waited=False)
            assert h.state(job) is JobState.QUEUED
            h.engine.cancel(job)
            assert job.state is JobState.CANCELLED
            assert job.start_s == 0
            error = view.full_error(job)
            assert error is not None
            assert (error.reason, error.undone) == ("CANCELLED", ())
            assert not any(memory.read())

    run(story())


@pytest.mark.parametrize("waited", [True, False])
def test_cancel_when_running_then_all_is_undone(waited: bool) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(SIZE)
            job = await h.submit(slow_log(memory), waited=waited)
            await h.until(lambda: job.tally.chunks_done >= 2)
            h.engine.cancel(job)
            await h.ended(job)
            assert job.state is JobState.CANCELLED
            check_log(memory, job)
            error = view.full_error(job)
            assert error is not None
            assert {i for i, byte in enumerate(memory.read()) if byte} == positions(error.undone)
            assert not h.deaths, "every worker obeyed the flag"

    run(story())


def on_state(job: Job, state: JobState, call: Callable[[], None]) -> None:
    """Do something at the very moment when the job gets into a state."""

    def notify(_: Job) -> None:
        if job.state is state:
            job.unwatch(notify)
            call()

    job.watch(notify)


def test_cancel_when_combining_then_the_result_is_not_told() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(bytes(4 * MIB))
            job = await h.submit(JobSpec("file.crc32", sources={"data": memory.ref}))
            await h.until(lambda: job.state is JobState.COMBINING or job.state.ended)
            assert h.state(job) is JobState.COMBINING
            h.engine.cancel(job)
            await h.ended(job)
            assert job.state is JobState.CANCELLED
            assert view.full_result(job) is None

    run(story())


def test_cancel_when_undoing_then_changes_nothing() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(SIZE)
            job = await h.submit(undo_log(memory, fail_at=SIZE - 1))
            on_state(job, JobState.UNDOING, lambda: h.engine.cancel(job))
            await h.ended(job)
            assert job.state is JobState.FAILED
            check_log(memory, job)
            h.engine.cancel(job)
            assert job.state is JobState.FAILED

    run(story())


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.COMBINING, JobState.DRAINING])
def test_cancel_of_a_copy_when_at_any_step_then_all_or_nothing(state: JobState) -> None:
    """Guards: I2"""

    async def story() -> None:
        async with real_jobs() as h:
            content = random.Random(3).randbytes(2 * MIB + 5)
            source, target = h.memory(content), h.memory(5)
            spec = JobSpec("file.copy", sources={"src": source.ref, "dst": target.ref}, min_chunk=4096)
            job = await h.submit(replace(spec, max_threads=1))
            if job.state is not state:
                on_state(job, state, lambda: asyncio_soon(h, job))
            else:
                h.engine.cancel(job)
            if state is JobState.DRAINING:
                h.engine.cancel(job)
            await h.ended(job)
            wanted = {JobState.CANCELLED: bytes(5), JobState.SUCCEEDED: content}
            assert target.read() == wanted[job.state]

    run(story())


def asyncio_soon(h: RealJobs, job: Job) -> None:
    """Cancel in the next round of the loop, as a request would."""
    asyncio.get_running_loop().call_soon(h.engine.cancel, job)


@pytest.mark.parametrize("cpu", [True, False])
def test_cancel_when_a_function_hangs_then_its_worker_is_killed_and_replaced(cpu: bool) -> None:
    async def story() -> None:
        async with real_jobs(grace_s=0.1) as h:
            hang = JobSpec("selftest.hang", arg={"cpu": cpu}, ranges=(RangeSpec(0, 10),), max_threads=1)
            job = await h.submit(hang)
            worker = await h.begun(job)
            # It looked at the flag once, and never will again.
            await h.until(lambda: worker.beats)
            await asyncio.sleep(0.02)
            h.engine.cancel(job)
            assert h.state(job) is JobState.DRAINING
            await h.ended(job)
            assert job.state is JobState.CANCELLED
            assert [death.signal for death in h.deaths] == [9]
            await h.until(lambda: h.at_rest)
            after = await h.run(JobSpec("selftest.noop", ranges=(RangeSpec(0, 10),)))
            assert after.state is JobState.SUCCEEDED

    run(story())


def test_worker_when_killed_and_not_seen_dead_then_its_job_is_dirty() -> None:
    async def story() -> None:
        async with real_jobs(grace_s=0.05, fence_s=0.1) as h:
            memory = h.memory(SIZE)
            job = await h.submit(undo_log(memory, delay_ms=3_600_000, max_threads=1))
            worker = await h.begun(job)
            # A process in an uninterruptible sleep does not die of SIGKILL.
            worker.recall = lambda: None  # type: ignore[method-assign]
            kill, worker.kill = worker.kill, lambda why="": None  # type: ignore[method-assign]
            h.look = lambda: h._changed.set()  # type: ignore[method-assign]
            h.engine.cancel(job)
            await h.ended(job)
            error = view.full_error(job)
            assert job.state is JobState.DIRTY
            assert error is not None
            assert error.reason == "WORKER_STUCK"
            assert str(worker.pid) in error.message
            assert error.dirty == (Span(0, 50),)
            after = await h.run(JobSpec("selftest.noop", ranges=(RangeSpec(0, 10),)))
            assert after.state is JobState.SUCCEEDED
            kill()
            await h.until(lambda: h.deaths)

    run(story())


def test_caller_when_it_goes_then_its_job_is_cancelled_unless_another_waits() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            spec = JobSpec("selftest.spin", arg={"ms": 3_600_000}, ranges=(RangeSpec(0, 1),), request_id="r")
            job = await h.submit(spec)
            again = await h.submit(spec)
            assert again is job
            h.engine.unguard(job, "CLIENT_GONE")
            await h.begun(job)
            assert h.state(job) is JobState.RUNNING
            h.engine.unguard(job, "DEADLINE")
            await h.ended(job)
            error = view.full_error(job)
            assert job.state is JobState.CANCELLED
            assert error is not None
            assert (error.reason, error.message) == ("DEADLINE", "the caller's deadline passed")

    run(story())


# -- refusals ----------------------------------------------------------------------


def test_intake_when_it_refuses_then_nothing_is_left() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            memory = h.memory(100)
            source = h.handles.resolve(memory.ref.handle, ME.uid)
            bad = [
                undo_log(memory, ranges=(RangeSpec(0, 101),)),
                undo_log(memory, arg={"record": 0}),
                replace(undo_log(memory), function="file.copy"),
            ]
            for spec in bad:
                with pytest.raises(KtaskError):
                    await h.submit(spec)
            with pytest.raises(KtaskError, match="not known"):
                await h.submit(undo_log(memory), who=STRANGER)
            h.intake.draining = True
            with pytest.raises(Draining):
                await h.submit(undo_log(memory))
            assert source._references == 1
            assert not list(h.registry)

    run(story())


def test_intake_when_the_quota_is_full_then_refused_and_nothing_is_left() -> None:
    async def story() -> None:
        async with real_jobs(limits=JobLimits(queued_per_uid=1)) as h:
            memory = h.memory(SIZE)
            job = await h.submit(undo_log(memory, delay_ms=1.0))
            with pytest.raises(QuotaFull, match="has 1 unfinished jobs"):
                await h.submit(undo_log(memory))
            source = h.handles.resolve(memory.ref.handle, ME.uid)
            assert source._references == 2
            h.engine.cancel(job)
            await h.ended(job)
            assert source._references == 1

    run(story())


def test_event_when_it_is_illegal_then_the_job_is_as_before() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.run(JobSpec("selftest.noop", ranges=(RangeSpec(0, 1),)))
            version = job.version
            with pytest.raises(Exception, match="SUCCEEDED"):
                job.apply(Event.START)
            assert (job.state, job.version) == (JobState.SUCCEEDED, version)

    run(story())
