"""Priorities of a real daemon's workers, and workers that start and end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.groups import idle_group, own_groups
from tests.support.real_daemon import (
    PATIENCE_S,
    Stubs,
    connected,
    running,
    spin,
    starting,
    state_name,
    until,
    write_config,
)


def status(stubs: Stubs) -> control_pb2.Status:
    return stubs.control.GetStatus(control_pb2.GetStatusRequest(), timeout=PATIENCE_S).status


def workers(stubs: Stubs, kind: control_pb2.WorkerClass.ValueType) -> list[control_pb2.Worker]:
    return [worker for pool in status(stubs).pools if pool.worker_class == kind for worker in pool.workers]


def helpers(stubs: Stubs) -> list[control_pb2.Worker]:
    return workers(stubs, control_pb2.WORKER_CLASS_HELPER)


def run_spin(stubs: Stubs, units: int = 8, ms: float = 2) -> None:
    job = stubs.jobs.Run(pb.RunRequest(spec=spin(units, ms)), timeout=PATIENCE_S).job
    assert state_name(job) == "SUCCEEDED"


@pytest.mark.parametrize("wanted", ["auto", "never"])
def test_status_when_asked_then_what_makes_helpers_give_way_and_how_they_are_raised(
    tmp_path: Path, wanted: str
) -> None:
    with idle_group() as group:
        possible = group is not None
    config = write_config(tmp_path / "x.toml", workers={"idle_group": wanted})
    with running(tmp_path / "run", "--config", config) as daemon, connected(daemon.socket) as stubs:
        until(lambda: bool(status(stubs).raising) or "raising ways=none" in daemon.log(), "ways are tried")
        told, (helper, *_), (lead, *_) = (
            status(stubs),
            helpers(stubs),
            workers(stubs, control_pb2.WORKER_CLASS_LEAD),
        )
        assert lead.gives_way_by == ""
        if possible and wanted == "auto":
            (name,) = own_groups(daemon.process.pid)
            assert (helper.gives_way_by, helper.cgroup) == ("idle cgroup", f"/{name}")
            assert told.raising[0] == "out of the idle cgroup"
            assert lead.cgroup != helper.cgroup
        else:
            assert own_groups(daemon.process.pid) == []
            assert helper.gives_way_by != "idle cgroup"
            refused = [text for text in told.missing if text.startswith("idle cgroup")]
            assert len(refused) == (1 if wanted == "auto" and helper.gives_way_by != "idle slice" else 0)
    assert own_groups(daemon.process.pid) == []


def test_group_when_the_daemon_is_killed_then_gone_with_its_last_pool_host(tmp_path: Path) -> None:
    with starting(tmp_path / "run") as daemon:
        daemon.wait_ready()
        tree = [psutil.Process(process.pid) for process in daemon.tree()]
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        until(lambda: not any(process.is_running() for process in tree[1:]), "its processes are gone")
        # The last of them removes it, and one that is still dying keeps it busy.
        until(lambda: own_groups(daemon.process.pid) == [], "the group is gone")


def test_helpers_when_there_is_work_then_started_and_when_idle_then_ended(tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    config = write_config(tmp_path / "x.toml", workers={"warm": 0, "idle_timeout_s": 0.3})
    with running(tmp_path / "run", "--config", config) as daemon, connected(daemon.socket) as stubs:
        until(lambda: helpers(stubs) == [], "the first helper ends")
        job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(400, 5))).job
        until(lambda: len(helpers(stubs)) == min(cpus, 4), "all helpers are started")
        # Helpers end in a pause of the job as well, which others on the machine can cause.
        until(lambda: state_name(stubs.jobs.Get(pb.GetRequest(id=job.id)).job) == "SUCCEEDED", "it ends")
        until(lambda: helpers(stubs) == [], "idle helpers end")
        until(lambda: workers(stubs, control_pb2.WORKER_CLASS_LEAD) == [], "idle leads end")
        run_spin(stubs)


def test_jobs_when_workers_end_between_them_then_none_is_lost(tmp_path: Path) -> None:
    config = write_config(tmp_path / "x.toml", workers={"warm": 0, "idle_timeout_s": 0.001})
    with running(tmp_path / "run", "--config", config) as daemon, connected(daemon.socket) as stubs:
        for _ in range(40):
            run_spin(stubs, 4, 0.5)
        done = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(4, 0.5))).job
        until(lambda: state_name(stubs.jobs.Get(pb.GetRequest(id=done.id)).job) == "SUCCEEDED", "it ends")
