"""A daemon from its start to its end, however it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    alive,
    connected,
    find_by_request,
    handed_over,
    memory,
    refused,
    run_program,
    running,
    spec,
    spin,
    starting,
    state_name,
    until,
    wait_state,
    works,
    write_config,
)

SIZE = 4096


def undo_log(handle: str, request_id: str = "", delay_ms: float = 2) -> pb.JobSpec:
    return spec(
        "selftest.undo_log",
        arg={"delay_ms": delay_ms},
        sources={"data": {"handle": handle}},
        ranges=[{"length": str(SIZE)}],
        request_id=request_id,
    )


def submit_hang(stubs: Stubs, *, cpu: bool = False) -> pb.Job:
    """A job whose worker hangs by now."""
    hang = spec("selftest.hang", arg={"at": 1, "cpu": cpu}, ranges=[{"length": "2"}], min_chunk="2")
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=hang)).job

    def hangs() -> bool:
        return stubs.jobs.Get(pb.GetRequest(id=job.id)).job.progress.positions_done == 1

    until(hangs, "the worker hangs")
    return job


# -- the end -----------------------------------------------------------------------


def test_second_daemon_when_started_in_the_same_directory_then_1_and_the_first_goes_on(
    daemon: Daemon,
) -> None:
    done = run_program([sys.executable, "-m", "ktaskd", "--runtime-dir", daemon.place])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"ktaskd: runtime directory {daemon.place}: a daemon is running there already"
        f" (pid {daemon.process.pid})\n"
    )
    assert works(daemon)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_when_jobs_run_then_undone_before_it_ends(place: Path, number: int) -> None:
    """Guards: I11"""
    with (
        starting(place) as daemon,
        memory(SIZE) as waited,
        memory(SIZE) as detached,
        handed_over_when_ready(daemon, waited, detached) as (first, second),
        connected(daemon.socket) as stubs,
    ):
        wanted = undo_log(first, "waited", delay_ms=20)
        wanted.max_threads = 1  # a lead alone, so that a helper has the other CPU for itself
        run = stubs.jobs.Run.future(pb.RunRequest(spec=wanted))
        job = stubs.jobs.Submit(pb.SubmitRequest(spec=undo_log(second, "detached"))).job
        until(lambda: any(os.pread(waited, SIZE, 0)) and any(os.pread(detached, SIZE, 0)), "both have begun")
        watch = stubs.jobs.Watch(pb.WatchRequest(id=job.id))
        next(iter(watch))
        tree = daemon.tree()
        daemon.signal(number)

        ended = run.result(PATIENCE_S).job
        *_, last = list(watch)
        assert daemon.wait() == 0, daemon.log()
        assert not alive(tree)
        for one, fd in ((ended, waited), (last.job, detached)):
            assert (state_name(one), one.error.reason) == ("CANCELLED", "SHUTDOWN")
            check_undone(one, fd)
        assert last.final
        assert not list(place.iterdir())


@contextmanager
def handed_over_when_ready(daemon: Daemon, *fds: int) -> Iterator[list[str]]:
    daemon.wait_ready()
    with handed_over(daemon.handoff, *fds) as handles:
        yield handles


def check_undone(job: pb.Job, fd: int) -> None:
    """Each byte was never touched, or done once and undone once, as the job says."""
    wanted = bytearray(SIZE)
    for span in job.error.undone:
        wanted[span.start : span.end] = bytes([17]) * (span.end - span.start)
    assert any(wanted)
    assert os.pread(fd, SIZE, 0) == wanted


def test_stop_when_it_takes_long_then_jobs_are_refused_and_nobody_can_resume(
    place: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c", workers={"cancel_grace_s": 1.5})
    with starting(place, "--config", config) as daemon:
        daemon.wait_ready()
        with connected(daemon.socket) as stubs:
            # The function ignores the flag, so its worker is killed after grace_s.
            job = submit_hang(stubs)
            daemon.signal(signal.SIGTERM)
            wait_state(stubs.jobs, job.id, "DRAINING")
            answered = stubs.control.Drain(control_pb2.DrainRequest(resume=True))
            assert (answered.draining, answered.jobs_left) == (True, 1)
            refusal = refused(stubs.jobs.Run, pb.RunRequest(spec=spin(1, 1)))
            assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "DRAINING")
            check: Any = stubs.health.Check  # type: ignore[attr-defined]
            health = check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert daemon.wait() == 0, daemon.log()


def test_stop_when_many_streams_are_open_then_it_ends_all_the_same(place: Path) -> None:
    with starting(place) as daemon:
        daemon.wait_ready()
        with connected(daemon.socket) as stubs:
            calls = [stubs.control.WatchStatus(control_pb2.WatchStatusRequest()) for _ in range(20)]
            for call in calls:
                next(iter(call))
            daemon.signal(signal.SIGTERM)
            for call in calls:
                with pytest.raises(grpc.RpcError) as caught:
                    list(call)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert daemon.wait() == 0, daemon.log()


def test_stop_when_it_comes_before_it_is_ready_then_it_ends_well(place: Path) -> None:
    with starting(place) as daemon:
        until(daemon.handoff.exists, "its sockets are there")
        # From now on until it handles signals, a signal may also just kill it.
        until(lambda: bool(daemon.tree()[1:]), "it has begun with its pool hosts")
        tree = daemon.tree()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0, daemon.log()
        assert not alive(tree)
        assert not list(place.iterdir())


def test_kill_when_workers_are_busy_then_nothing_is_left_running(place: Path, reachable_dir: Path) -> None:
    with starting(place) as daemon, memory(SIZE) as fd:
        daemon.wait_ready()
        with connected(daemon.socket) as stubs, handed_over(daemon.handoff, fd) as (handle,):
            # In this order: a later job of the same user may wait for a helper until the first has ended.
            submit_hang(stubs, cpu=True)
            call = stubs.jobs.Run.future(pb.RunRequest(spec=undo_log(handle)))
            until(lambda: any(os.pread(fd, SIZE, 0)), "the waited job has begun")
            tree = daemon.tree()
            assert len(tree) >= 6, "the daemon, two pool hosts, workers, a keeper"
            daemon.signal(signal.SIGKILL)
            with pytest.raises(grpc.RpcError) as caught:
                call.result(PATIENCE_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert daemon.wait() == -signal.SIGKILL
        until(lambda: not alive(tree), "all of its processes are gone")
    # The files that it left behind do not hinder the next daemon.
    with running(place) as again:
        assert works(again)


def test_idle_exit_when_nobody_comes_then_it_ends_by_itself(place: Path) -> None:
    with starting(place, "--idle-exit", "0.3") as daemon:
        daemon.wait_ready()
        assert daemon.wait() == 0, daemon.log()
        assert not list(place.iterdir())


def test_idle_exit_when_somebody_is_connected_then_not_before_that_ends(place: Path) -> None:
    config = write_config(place.parent / "c", jobs={"keep_s": 0.1}, daemon={"idle_exit_s": 0.3})
    with starting(place, "--config", config) as daemon:
        daemon.wait_ready()
        with connected(daemon.socket) as stubs:
            # The job runs far longer than the daemon may be idle.
            job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(800, 1))).job
            stubs.channel.close()
        with connected(daemon.socket) as stubs:
            wait_state(stubs.jobs, job.id, "SUCCEEDED")
        assert daemon.wait() == 0, daemon.log()


def test_idle_exit_when_a_mode_is_set_or_a_result_is_kept_then_not_before_that_is_over(place: Path) -> None:
    """Both would be lost with the daemon."""
    config = write_config(place.parent / "c", jobs={"keep_s": 1.0}, daemon={"idle_exit_s": 0.05})
    with starting(place, "--config", config) as daemon:
        daemon.wait_ready()
        with connected(daemon.socket) as stubs:
            job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(1, 1))).job
            wait_state(stubs.jobs, job.id, "SUCCEEDED")
        until(lambda: "idle_held" in daemon.log(), "it was idle, with a result")
        with connected(daemon.socket) as stubs:
            assert stubs.jobs.Get(pb.GetRequest(id=job.id)).job.id == job.id
            stubs.control.SetMode(control_pb2.SetModeRequest(mode=control_pb2.MODE_PAUSED))
        until(lambda: "idle_held seconds=inf" in daemon.log(), "it was idle, with a mode without an end")
        with connected(daemon.socket) as stubs:
            assert (
                stubs.control.GetStatus(control_pb2.GetStatusRequest()).status.mode == control_pb2.MODE_PAUSED
            )
            request = control_pb2.SetModeRequest(mode=control_pb2.MODE_PAUSED)
            request.duration.FromMilliseconds(200)
            stubs.control.SetMode(request)
        assert daemon.wait() == 0, daemon.log()


# -- draining and looking ------------------------------------------------------------


def test_watch_status_when_draining_then_told(place: Path) -> None:
    with running(place) as daemon, connected(daemon.socket) as stubs:
        request = control_pb2.WatchStatusRequest()
        request.min_interval.FromMilliseconds(100)
        call = stubs.control.WatchStatus(request, timeout=PATIENCE_S)
        seen = iter(call)
        assert not next(seen).status.draining
        stubs.control.Drain(control_pb2.DrainRequest())
        assert next(message for message in seen if message.status.draining)
        stubs.control.Drain(control_pb2.DrainRequest(resume=True))
        assert next(message for message in seen if not message.status.draining)
        call.cancel()


@pytest.mark.parametrize("seconds", [-(2**63), -1, 0, 315_576_000_000, 2**63 - 1])
def test_watch_status_when_the_interval_is_odd_then_the_first_message_comes(
    stubs: Stubs, seconds: int
) -> None:
    request = control_pb2.WatchStatusRequest()
    request.min_interval.seconds = seconds
    call = stubs.control.WatchStatus(request, timeout=PATIENCE_S)
    assert next(iter(call)).status.pid
    call.cancel()


def test_drain_when_jobs_run_then_they_go_on(place: Path) -> None:
    with running(place) as daemon, connected(daemon.socket) as stubs:
        run = stubs.jobs.Run.future(pb.RunRequest(spec=spin(300, 1, request_id="runs")))
        wait_state(stubs.jobs, find_by_request(stubs.jobs, "runs").id, "RUNNING")
        answered = stubs.control.Drain(control_pb2.DrainRequest())
        assert (answered.draining, answered.jobs_left) == (True, 1)
        # A job that was accepted before is found, also by its request_id.
        again = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(300, 1, request_id="runs"))).job
        assert state_name(run.result(PATIENCE_S).job) == "SUCCEEDED"
        assert again.id == run.result().job.id
