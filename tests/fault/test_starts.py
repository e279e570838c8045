"""Workers and pool hosts that die at their start, and pool hosts that die at any time."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from ktaskd.jobs import view
from ktaskd.model.job import JobState
from tests.fault.armed_faults import ArmedFaults
from tests.fault.faulty_pools import faulty_pools
from tests.fault.struck_jobs import MAKERS, StruckJob
from tests.jobs.realjobs import RealJobs


def pids(h: RealJobs) -> set[int]:
    return {pool.host_pid for pool in h.pools} | {worker.pid for pool in h.pools for worker in pool.workers}


def children(pid: int) -> set[int]:
    """Children of a process, zombies among them; none if the process is gone."""
    with contextlib.suppress(FileNotFoundError):
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


def is_host(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return b"ktaskd.pool.host" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def houses_processes() -> set[int]:
    """The pool hosts that this process started, and all below them.

    Daemons that other tests share are children of this process as well.
    """
    hosts = {child for child in children(os.getpid()) if is_host(child)}
    return hosts.union(*(children(host) for host in hosts))


async def survives(h: RealJobs, armed: ArmedFaults, victim: StruckJob, struck: int) -> None:
    """Strike a process while a job runs; the job succeeds, the pools come back."""
    job = await h.submit(victim.spec)
    # In a chunk: a step that is begun and lost twice ends the job.
    await h.until(lambda: set(h.holders(job)) - {job.crew.step_worker} or job.state.ended)
    os.kill(struck, signal.SIGKILL)
    await h.ended(job)
    assert job.state is JobState.SUCCEEDED, view.full_error(job)
    assert victim.found(view.full_result(job)), view.full_result(job)
    assert victim.wrong((), succeeded=True) == ""
    await h.until(lambda: h.at_rest and not armed.waiting())
    # No process is left over, and the pools know every process that is there.
    await h.until(lambda: houses_processes() == pids(h))


@pytest.mark.parametrize(
    "faults",
    [
        "",
        "host.at_start:kill*2",
        "host.at_start:segv host.at_start:exit0 host.at_start:raise",
        "host.before_fork:raise*3",
        "host.before_fork:kill host.before_fork:exit0",
        "host.after_fork:kill",
        "host.after_fork:segv host.after_fork:raise",
        "worker.at_start:kill*2 worker.at_start:segv",
        "worker.at_start:exit0*2 worker.at_start:raise",
    ],
)
def test_pool_when_its_host_dies_and_the_next_ones_fail_then_back_to_size(faults: str) -> None:
    with faulty_pools() as (one, armed):
        h = one.jobs
        armed.arm_all(faults)
        for maker, pool in (("fill", h.pools[0]), ("copy", h.pools[-1])):
            one.run(survives(h, armed, MAKERS[maker](h), pool.host_pid))
        assert h.pools[0].host_respawns >= 1 <= h.pools[-1].host_respawns


def test_pool_when_a_worker_dies_and_the_next_ones_fail_then_back_to_size() -> None:
    with faulty_pools() as (one, armed):
        h = one.jobs
        armed.arm_all(
            "worker.at_start:kill worker.at_start:exit0 worker.at_start:raise host.before_fork:raise"
        )
        for worker in (next(iter(h.pools[0].workers)), next(iter(h.pools[-1].workers))):
            one.run(survives(h, armed, MAKERS["crc"](h), worker.pid))
        assert [pool.host_respawns for pool in h.pools] == [0, 0]
