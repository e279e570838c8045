"""Workers that use CPU time without progress, and workers that only wait."""

from __future__ import annotations

from pathlib import Path

from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import PATIENCE_S, connected, running, spec, spin, state_name, write_config


def test_worker_when_it_burns_cpu_without_progress_then_killed_and_others_do_not_notice(
    place: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c", workers={"hang_cpu_s": 0.3})
    with running(place, "--config", config) as daemon, connected(daemon.socket) as stubs:
        hang = spec("selftest.hang", arg={"cpu": True, "at": 2}, ranges=[{"length": "4"}])
        hanging = stubs.jobs.Run.future(pb.RunRequest(spec=hang), timeout=PATIENCE_S)
        other = stubs.jobs.Run(pb.RunRequest(spec=spin(40, 5)), timeout=PATIENCE_S).job
        assert state_name(other) == "SUCCEEDED"
        job = hanging.result().job
        assert state_name(job) == "FAILED"
        assert job.error.reason == "WORKER_LOST"
        assert job.error.message.startswith("worker used 0.3 s of CPU time without progress in chunk [")
        assert job.error.message.endswith("), 3 times")
        assert job.error.signal == 9


def test_worker_when_its_job_burns_cpu_in_quanta_then_it_may_take_long(place: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c", workers={"hang_cpu_s": 0.3})
    with running(place, "--config", config) as daemon, connected(daemon.socket) as stubs:
        job = stubs.jobs.Run(pb.RunRequest(spec=spin(1, 1000)), timeout=PATIENCE_S).job
        assert state_name(job) == "SUCCEEDED"
