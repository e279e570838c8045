"""The daemon and its runtime directory: odd names, and a directory that disappears."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import ktask
import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import (
    KTASKD,
    connected,
    run_program,
    running,
    spin,
    starting,
    state_name,
    until,
    wait_state,
    write_config,
)

NAMES = [b"50%20", b"%", b"%s %d", b"a b#?&=", b"\xff\xfe-\xc3", "\u00e4\u20ac".encode(), b"new\nline"]


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("name", NAMES)
def test_directory_when_its_name_has_any_bytes_then_everything_works(tmp_path: Path, name: bytes) -> None:
    place = tmp_path / os.fsdecode(name)
    with running(place, "--own-user") as daemon:
        with ktask.connect(place) as client, ktask.memory(4096) as memory:
            assert client.run("mem.fill", arg={"value": 3}, data=memory).state is ktask.JobState.SUCCEEDED
            assert client.status().runtime_dir.isprintable() or b"\n" in name
        with ktask.Executor(1, target=place) as executor:
            assert executor.submit(double, 21).result(60) == 42
        done = run_program([KTASKD.parent / "ktask", "--socket", place, "status"])
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in daemon.log()


def test_directory_when_removed_and_nothing_runs_then_the_daemon_ends_and_says_why(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with starting(place) as daemon, connected(daemon.wait_ready().socket):
        shutil.rmtree(place)
        assert daemon.wait() == 1
        assert f'runtime_dir_lost what="{place}' in daemon.log()
        assert "no client can connect any more" in daemon.log()
        assert "Traceback" not in daemon.log()


def test_directory_when_removed_while_a_job_runs_then_that_ends_first(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with starting(place) as daemon, connected(daemon.wait_ready().socket) as stubs:
        job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(10**9, 1))).job
        wait_state(stubs.jobs, job.id, "RUNNING")
        shutil.rmtree(place)
        until(lambda: "runtime_dir_lost" in daemon.log(), "it has noticed")
        with running(place) as second, connected(second.socket) as others:
            # Both work; the existing connection stays usable.
            assert state_name(others.jobs.Run(pb.RunRequest(spec=spin(1, 1))).job) == "SUCCEEDED"
            assert state_name(stubs.jobs.Get(pb.GetRequest(id=job.id)).job) == "RUNNING"
            stubs.jobs.Cancel(pb.CancelRequest(id=job.id))
            assert daemon.wait() == 1
            assert state_name(others.jobs.Run(pb.RunRequest(spec=spin(1, 1))).job) == "SUCCEEDED"
        with connected(place / "ktaskd.sock"):
            pass
    assert not list(place.iterdir())


def test_directory_when_something_else_in_it_is_removed_then_nothing_happens(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with running(place) as daemon, connected(daemon.socket) as stubs:
        (place / "note").touch()
        (place / "note").unlink()
        assert state_name(stubs.jobs.Run(pb.RunRequest(spec=spin(1, 1))).job) == "SUCCEEDED"
        assert "runtime_dir_lost" not in daemon.log()


def test_stop_when_the_directory_is_gone_then_as_ever(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with starting(place) as daemon, connected(daemon.wait_ready().socket) as stubs:
        job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(10**9, 1))).job
        wait_state(stubs.jobs, job.id, "RUNNING")
        shutil.rmtree(place)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() in (0, 1), daemon.log()
        assert "state=cancelled reason=SHUTDOWN" in daemon.log()


@pytest.mark.other_uid
def test_own_daemon_of_root_when_there_is_a_group_for_clients_then_it_still_serves_root_alone(
    tmp_path: Path,
) -> None:
    """The package makes that group, but root's own program does not depend on it."""
    config = write_config(tmp_path / "c", sockets={"group": "nogroup"})
    with running(tmp_path / "d", "--own-user", "--config", config) as daemon:
        for path in (daemon.socket, daemon.handoff):
            assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o600, os.getegid())
        with ktask.Executor(1, target=daemon.place) as executor:
            assert executor.submit(double, 21).result(60) == 42
