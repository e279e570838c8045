"""A watched status with jobs and the use of CPUs, from a real daemon."""

from __future__ import annotations

from pathlib import Path

from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import PATIENCE_S, connected, running, spin, wait_state


def test_watch_status_when_asked_for_jobs_then_they_come_again_and_again_with_the_cpus(place: Path) -> None:
    with running(place) as daemon, connected(daemon.socket) as stubs:
        ids = [stubs.jobs.Submit(pb.SubmitRequest(spec=spin(10**8, 1))).job.id for _ in range(3)]
        request = control_pb2.WatchStatusRequest(max_jobs=2)
        request.min_interval.FromMilliseconds(100)
        call = stubs.control.WatchStatus(request, timeout=PATIENCE_S)
        seen = iter(call)
        first = next(message for message in seen if message.cpus)
        assert len(first.jobs) == 2
        assert first.jobs_omitted == 1
        assert {job.id for job in first.jobs} <= set(ids)
        assert all(use.helpers + use.leads + use.others <= 1.001 for use in first.cpus)
        used = (sum(use.helpers + use.leads for use in message.cpus) for message in seen)
        assert next(share for share in used if share > 0)
        for job_id in ids:
            stubs.jobs.Cancel(pb.CancelRequest(id=job_id))
            wait_state(stubs.jobs, job_id, "CANCELLED")
        # Ended ones stay for a while, without results.
        assert next(message for message in seen if message.jobs and not message.jobs_omitted)
        call.cancel()


def test_watch_status_when_not_asked_for_jobs_then_none_come(place: Path) -> None:
    with running(place) as daemon, connected(daemon.socket) as stubs:
        call = stubs.control.WatchStatus(control_pb2.WatchStatusRequest(), timeout=PATIENCE_S)
        message = next(iter(call))
        assert not message.jobs
        assert not message.cpus
        call.cancel()
