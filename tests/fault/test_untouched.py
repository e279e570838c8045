"""No worker touches a source after its job's final state, even one that is woken up then."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from ktaskd.jobs import view
from ktaskd.model.job import JobState
from ktaskd.pool import link
from tests.fault.armed_faults import ArmedFaults
from tests.fault.faulty_pools import faulty_pools
from tests.fault.struck_jobs import MAKERS, StruckJob, rests
from tests.jobs.realjobs import RealJobs

PATTERN = b"reused"


def overwrite(victim: StruckJob) -> bytes:
    """Use the memory for other data, which its owner may do after the answer."""
    assert victim.memory is not None
    size = os.fstat(victim.memory.fd).st_size
    content = (PATTERN * (size // len(PATTERN) + 1))[:size]
    os.pwrite(victim.memory.fd, content, 0)
    return content


def wake(stopped: set[int]) -> None:
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def reused_after_the_answer(
    h: RealJobs, armed: ArmedFaults, victim: StruckJob, *, waited: bool
) -> None:
    armed.arm_all("worker.mid_chunk:stop")
    job = await h.submit(victim.spec, waited=waited)
    await h.until(lambda: not armed.waiting() and all(map(rests, armed.fired().values())))
    stopped = set(armed.fired().values())
    assert stopped <= {worker.pid for worker in job.crew.busy}
    h.engine.cancel(job)
    await h.until(lambda: job.state.ended)
    content = overwrite(victim)
    wake(stopped)
    await h.ended(job)
    assert job.state in (JobState.DIRTY, JobState.CANCELLED)
    # Wait for all late effects: the pools are complete again when all are dead.
    await h.until(lambda: h.at_rest)
    assert victim.memory is not None
    assert victim.memory.read() == content
    armed.clear()


def test_memory_when_reused_after_a_stopped_worker_then_as_its_owner_left_it() -> None:
    with faulty_pools(grace_s=0.1) as (one, armed):
        for maker in ("fill", "fill_mapped", "copy_over", "log"):
            for waited in (True, False):
                victim = MAKERS[maker](one.jobs)
                one.run(reused_after_the_answer(one.jobs, armed, victim, waited=waited))


async def stuck(h: RealJobs, armed: ArmedFaults, victim: StruckJob, patch: pytest.MonkeyPatch) -> None:
    armed.arm_all("worker.mid_chunk:stop")
    job = await h.submit(victim.spec)
    await h.until(lambda: not armed.waiting() and all(map(rests, armed.fired().values())))
    # Like a process in the kernel that no signal reaches.
    patch.setattr(link.Worker, "kill", lambda *_: None)
    h.engine.cancel(job)
    await h.until(lambda: job.state.ended)
    patch.undo()
    error = view.full_error(job)
    assert error is not None
    assert (job.state, error.reason) == (JobState.DIRTY, "WORKER_STUCK")
    (pid,) = armed.fired().values()
    assert f"worker {pid} was killed and is not dead" in error.message
    overwrite(victim)
    assert victim.memory is not None
    content = victim.memory.read()
    wake({pid})
    await h.until(lambda: not h.holders(job))
    other = await h.run(MAKERS["crc"](h).spec)
    assert other.state is JobState.SUCCEEDED
    changed = [i for i, byte in enumerate(victim.memory.read()) if byte != content[i]]
    assert all(any(span.start <= i < span.end for span in error.dirty) for i in changed[:: 1 << 12])


def test_job_when_its_worker_cannot_be_killed_then_stuck_and_its_span_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with faulty_pools(grace_s=0.1, fence_s=0.1) as (one, armed):
        one.run(stuck(one.jobs, armed, MAKERS["fill"](one.jobs), monkeypatch))


async def stuck_in_undo(
    h: RealJobs, armed: ArmedFaults, victim: StruckJob, patch: pytest.MonkeyPatch
) -> None:
    armed.arm_all("worker.in_undo:stop")
    patch.setattr(link.Worker, "kill", lambda *_: None)
    job = await h.submit(victim.spec)
    await h.until(lambda: job.state.ended)
    patch.undo()
    error = view.full_error(job)
    assert error is not None
    assert (job.state, error.reason) == (JobState.DIRTY, "WORKER_STUCK")
    wake(set(armed.fired().values()))
    assert victim.wrong(error.dirty, succeeded=False) == ""


def test_undo_when_its_worker_cannot_be_killed_then_stuck_and_its_span_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with faulty_pools(grace_s=0.1, fence_s=0.1) as (one, armed):
        one.run(stuck_in_undo(one.jobs, armed, MAKERS["bad_log"](one.jobs), monkeypatch))
