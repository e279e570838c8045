"""Clients in real cgroups that limit CPU time: a job has as many workers as its caller has CPUs."""

from __future__ import annotations

import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.integration.asker import asker
from tests.support.cgroups import cgroup, own_group
from tests.support.real_daemon import Daemon, connected, until, wait_ended, wait_state

pytestmark = pytest.mark.other_uid


@pytest.mark.parametrize(("cpus", "workers"), [(0.5, 1), (1.5, 1), (2, 2)])
@pytest.mark.parametrize("where", ["its own group", "an ancestor"])
def test_job_when_its_caller_has_so_many_cpus_then_so_many_workers(
    daemon: Daemon, cpus: float, workers: int, where: str
) -> None:
    """There are two helpers at least and a lead, so that three would be had without a limit."""
    with cgroup(own_group("cpu")) as upper, cgroup(upper, name="own") as group:
        limited = group if where == "its own group" else upper
        (limited / "cpu.cfs_quota_us").write_text(str(int(cpus * 100_000)))
        with asker(daemon.place, group) as client:
            job = client("run('selftest.spin', arg={'ms': 0.01}, ranges=[(0, 1000)], max_threads=8)")
            assert job == {"state": "SUCCEEDED", "threads": workers}


def test_limit_when_changed_while_the_job_runs_then_followed(daemon: Daemon) -> None:
    with (
        cgroup(own_group("cpu")) as upper,
        cgroup(upper, name="own") as group,
        asker(daemon.place, group) as client,
        connected(daemon.socket) as stubs,
    ):
        job_id = client("submit('selftest.spin', arg={'ms': 1}, ranges=[(0, 10_000_000)], max_threads=8)")

        def threads() -> int:
            return stubs.jobs.Get(pb.GetRequest(id=job_id)).job.plan.threads

        wait_state(stubs.jobs, job_id, "RUNNING")
        assert threads() >= 2
        for where, cpus, workers in ((group, 0.5, 1), (group, 2, 2), (upper, 1.5, 1), (upper, 2, 2)):
            (group / "cpu.cfs_quota_us").write_text(
                "-1"
            )  # v1 requires a lower limit in a group than above it
            (where / "cpu.cfs_quota_us").write_text(str(int(cpus * 100_000)))
            until(lambda wanted=workers: threads() == wanted, f"{workers} workers for {cpus} CPUs")  # type: ignore[misc]
        stubs.jobs.Cancel(pb.CancelRequest(id=job_id))
        wait_ended(stubs.jobs, job_id)
