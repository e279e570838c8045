"""Clients in real cgroups that limit memory: what their jobs allocate is charged to them, up to the limit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import zstandard
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from ktaskd.functions.catalogue import CATALOGUE
from tests.integration.asker import Asker, asker
from tests.support.cgroups import cgroup, in_groups, own_group
from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    connected,
    handed_over,
    memory,
    refused,
    running,
    spec,
    spin,
    state_name,
    until,
    wait_ended,
    write_config,
)
from tests.support.users import NOBODY, OtherUsers, reachable_directory

MIB = 1 << 20
LIMIT = 96 * MIB
SLACK = 12 * MIB
"""Variation in the memory of the processes themselves."""

CHARGED = 28 * MIB
"""The least that 32 MiB add to an account; its processes may have given a little back meanwhile."""

pytestmark = pytest.mark.other_uid


def usage(group: Path) -> int:
    return int((group / "memory.usage_in_bytes").read_text())


def spare(group: Path) -> None:
    """Let the kernel take back what nobody needs, and settle its accounts."""
    (group / "memory.force_empty").write_text("0")


@contextmanager
def daemon_in(group: Path, place: Path, *words: str | Path, **options: Any) -> Iterator[Daemon]:
    def popen(command: list[str | Path], **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(in_groups(command, group), **more)

    with running(place, *words, popen=popen, **options) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def ours() -> Iterator[Path]:
    """A memory cgroup for the daemon, without a limit."""
    with cgroup(own_group("memory")) as group:
        yield group


@pytest.fixture
def limited() -> Iterator[Path]:
    """A memory cgroup of 96 MiB."""
    with cgroup(own_group("memory"), {"memory.limit_in_bytes": str(LIMIT)}) as group:
        yield group


@pytest.fixture(scope="module")
def daemon(ours: Path) -> Iterator[Daemon]:
    """A daemon whose account is its own."""
    with reachable_directory() as directory:
        config = write_config(directory / "c", workers={"user": "nobody"})
        with daemon_in(ours, directory / "run", "--config", config) as started:
            yield started


@pytest.fixture
def client(daemon: Daemon, limited: Path) -> Iterator[Asker]:
    """A client in the limited group."""
    with asker(daemon.place, limited) as started:
        yield started


CREATE_AND = {
    "mem.populate": "data=memory('m', {0})",
    "mem.fill": "data=memory('m', {0}), arg={{'value': 7}}",
    "file.copy": "src='{1}', dst=memory('m', {0})",
    "mem.copy": "src='{1}', dst=memory('m', {0})",
    "mem.pattern": "data=memory('m', {0}), arg={{'record': '00ff'}}",
    "file.allocate": "data=memory('m', {0})",
    "file.compress": "src='{1}', dst=growing('m'), arg={{'level': 1}}",
    "file.decompress": "src='{1}', dst=growing('m')",
    "text.extract": "data='{1}', lines=memory('m', {0}), arg={{'pattern': 'x'}}",
    "array.map": "data=memory('m', {0}), arg={{'ufunc': 'add', 'operand': '1'}}",
}
"""How each function that allocates is asked to allocate so many MiB."""

WITHOUT_UNDO = ("mem.fill", "array.map")


def warm(client: Asker) -> None:
    """Have all processes started that stay, so that what is seen later is not theirs."""
    assert client("run('mem.populate', data=memory('warm', 1))")["state"] == "SUCCEEDED"
    client("drop('warm')")


def ask(function: str, mib: int, big: Path) -> str:
    return f"run({function!r}, {CREATE_AND[function].format(mib, big)})"


@contextmanager
def data_for(function: str, mib: int, directory: Path) -> Iterator[Path]:
    """A file with this much data, most of it on disk only; for mem.copy, in memory charged to others.

    Data to compress does not shrink, and data to decompress has this length afterwards.
    """
    path = (Path("/dev/shm") if function == "mem.copy" else directory) / f"big-{os.getpid()}"
    piece = os.urandom(MIB) if function == "file.compress" else (b"x" * 1023 + b"\n") * 1024
    if function == "file.decompress":
        piece = zstandard.compress(piece)
    try:
        with path.open("wb") as file:
            for _ in range(mib):
                file.write(piece)
            file.flush()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        yield path
    finally:
        path.unlink()


@pytest.fixture
def big(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """256 MiB for the function of the test."""
    with data_for(request.node.callspec.params["function"], 256, tmp_path) as path:
        yield path


def test_allocating_functions_when_listed_then_all_are_tried_here() -> None:
    assert {name for name, one in CATALOGUE.items() if one.allocates} == set(CREATE_AND)


@pytest.mark.parametrize("function", CREATE_AND)
def test_allocation_when_the_caller_is_limited_then_charged_to_its_group(
    ours: Path, limited: Path, client: Asker, tmp_path: Path, function: str
) -> None:
    with data_for(function, 32, tmp_path) as small:
        warm(client)
        before = usage(ours), usage(limited)
        assert client(ask(function, 32, small)) == {"state": "SUCCEEDED", "threads": 1}
        spare(ours)
        assert usage(limited) - before[1] > CHARGED
        assert usage(ours) - before[0] < SLACK


@pytest.mark.parametrize("function", CREATE_AND)
def test_allocation_when_beyond_the_limit_then_it_ends_there_and_nobody_else_pays(
    daemon: Daemon, ours: Path, limited: Path, client: Asker, big: Path, function: str
) -> None:
    warm(client)
    with connected(daemon.socket) as stubs:
        died = {one.name: one.value for one in status(stubs).counters}["workers_died"]
        other = stubs.jobs.Run.future(pb.RunRequest(spec=spin(500, 1)), timeout=PATIENCE_S)
        before = usage(ours), usage(limited)
        answer = client(ask(function, 256, big))
        assert answer["reason"] == "WORKER_LOST", answer
        assert answer["state"] == ("DIRTY" if function in WITHOUT_UNDO else "FAILED"), answer
        assert "worker killed by SIGKILL in" in answer["message"]
        assert f"{limited} has a limit of {LIMIT} bytes" in answer["message"]
        assert "times" not in answer["message"]
        spare(ours)
        assert usage(ours) - before[0] < SLACK
        assert state_name(other.result().job) == "SUCCEEDED"
        # Nobody but the guest was killed: the client and all workers live.
        assert client("run('selftest.noop', ranges=[(0, 1)])")["state"] == "SUCCEEDED"
        assert usage(limited) <= LIMIT
        counters = {one.name: one.value for one in status(stubs).counters}
        assert counters["workers_died"] == died + 1, daemon.log()


def test_client_when_its_job_filled_the_group_then_it_can_go_on_with_what_is_undone(
    client: Asker, limited: Path
) -> None:
    warm(client)
    before = usage(limited)
    for _ in range(3):
        answer = client("run('mem.populate', data=memory('m', 256))")
        assert (answer["state"], answer["reason"]) == ("FAILED", "WORKER_LOST"), answer
    assert usage(limited) - before < SLACK
    assert client("run('mem.populate', data=memory('n', 32))")["state"] == "SUCCEEDED"


def test_functions_that_do_not_allocate_when_the_caller_is_limited_then_as_ever(
    place: Path, ours: Path, limited: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(bytes(32 * MIB))
    with (
        daemon_in(ours, place) as daemon,
        asker(daemon.place, limited) as client,
        connected(daemon.socket) as stubs,
    ):
        assert client(f"run('file.crc32', data='{tmp_path / 'f'}')")["threads"] > 1
        assert "guests" not in {pool.name for pool in status(stubs).pools}, "no guest was needed"


def test_guest_when_its_job_ended_then_gone(daemon: Daemon, client: Asker) -> None:
    for _ in range(3):
        assert client("run('mem.populate', data=memory('m', 8))")["state"] == "SUCCEEDED"
    with connected(daemon.socket) as stubs:

        def none_left() -> bool:
            return not next(pool for pool in status(stubs).pools if pool.name == "guests").workers

        until(none_left, "all guests are gone")


def test_guest_when_its_job_is_cancelled_or_detached_then_no_other_end_than_elsewhere(
    daemon: Daemon, client: Asker
) -> None:
    job_id = client("submit('mem.populate', data=memory('m', 32))")
    with connected(daemon.socket) as stubs:
        assert state_name(wait_ended(stubs.jobs, job_id)) == "SUCCEEDED"
        job_id = client("submit('mem.populate', data=memory('n', 64))")
        stubs.jobs.Cancel(pb.CancelRequest(id=job_id))
        assert state_name(wait_ended(stubs.jobs, job_id)) in ("CANCELLED", "SUCCEEDED")


def test_limit_when_in_an_ancestor_then_it_counts_and_the_own_group_is_charged(
    daemon: Daemon, ours: Path, limited: Path
) -> None:
    with cgroup(limited, name="below") as below, asker(daemon.place, below) as client:
        warm(client)
        before = usage(ours), usage(below)
        assert client("run('mem.populate', data=memory('m', 32))") == {"state": "SUCCEEDED", "threads": 1}
        assert usage(below) - before[1] > CHARGED
        assert usage(ours) - before[0] < SLACK
        answer = client("run('mem.populate', data=memory('n', 256))")
        assert f"where {limited} has a limit" in answer["message"]


def test_limit_when_it_holds_for_our_workers_too_then_no_guest(place: Path, limited: Path) -> None:
    with (
        cgroup(limited, name="ours") as ours,
        cgroup(limited, name="theirs") as theirs,
    ):
        (limited / "memory.limit_in_bytes").write_text(str(1024 * MIB))
        with daemon_in(ours, place) as daemon, asker(daemon.place, theirs) as client:
            assert client("run('mem.populate', data=memory('m', 32))")["threads"] > 1
            (theirs / "memory.limit_in_bytes").write_text(str(LIMIT))
            before = usage(theirs)
            assert client("run('mem.populate', data=memory('n', 32))")["threads"] == 1
            assert usage(theirs) - before > CHARGED


def test_group_when_it_is_changed_before_the_job_then_the_one_of_the_time(
    daemon: Daemon, limited: Path, ours: Path
) -> None:
    with asker(daemon.place) as client:
        before = usage(limited)
        (limited / "cgroup.procs").write_text(str(client.process.pid))
        assert client("run('mem.populate', data=memory('m', 32))") == {"state": "SUCCEEDED", "threads": 1}
        assert usage(limited) - before > CHARGED


@contextmanager
def through(fd: int, path: Path) -> Iterator[Stubs]:
    """Stubs whose calls go over a connection that somebody else has made; it is closed at the end."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    with socket.socket(fileno=fd) as made, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        with connected(path) as stubs:
            grpc.channel_ready_future(stubs.channel)  # it begins to connect
            accepted, _ = listener.accept()
            threads = [
                threading.Thread(target=pump, args=pair) for pair in ((made, accepted), (accepted, made))
            ]
            for thread in threads:
                thread.start()
            yield stubs
        for thread in threads:
            thread.join()
        accepted.close()


def test_connection_when_the_process_that_made_it_was_gone_at_once_then_nothing_is_allocated(
    daemon: Daemon, reachable_dir: Path
) -> None:
    """A limited caller cannot get rid of its limit by a process that connects and ends."""
    daemon.signal(signal.SIGSTOP)
    left, right = socket.socketpair()
    with left, right:
        child = os.fork()
        if child == 0:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(os.fspath(daemon.socket))
                socket.send_fds(right, [b"1"], [sock.fileno()])
            os._exit(0)
        _, (fd,), _, _ = socket.recv_fds(left, 1, 1)
        os.waitpid(child, 0)
        daemon.signal(signal.SIGCONT)
        with (
            memory(MIB) as made,
            handed_over(daemon.handoff, made) as (handle,),
            through(fd, reachable_dir / "through") as stubs,
        ):
            spec_of = spec("mem.populate", sources={"data": {"handle": handle}})
            refusal = refused(stubs.jobs.Run, pb.RunRequest(spec=spec_of))
            assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "MEMORY_LIMITED")
            assert f"process {child}, which connected, could not be read" in refusal.message
            answer = stubs.jobs.Run(pb.RunRequest(spec=spin(1, 1)), timeout=PATIENCE_S).job
            assert state_name(answer) == "SUCCEEDED"


def test_daemon_without_the_right_when_the_caller_is_limited_then_refused(
    reachable_dir: Path, limited: Path, run_as: OtherUsers
) -> None:
    place = run_as.home(NOBODY) / "limits"
    log = reachable_dir / "log"
    with log.open("w") as out:
        process = run_as.start(
            NOBODY,
            [run_as.program("ktaskd"), "--runtime-dir", place, "--selftest"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    daemon = Daemon(place, process, log)
    try:
        daemon.wait_ready()
        with asker(place, limited, as_uid=(run_as, NOBODY)) as client:
            answer = client("run('mem.populate', data=memory('m', 32))")
            assert answer["refused"] == "MEMORY_LIMITED"
            assert 'function "mem.populate": allocates memory' in answer["message"]
            assert f"{LIMIT} bytes by the limit of {limited}" in answer["message"]
            assert f"{limited}/cgroup.procs: Permission denied" in answer["message"]
            assert client("run('selftest.noop', ranges=[(0, 1)])")["state"] == "SUCCEEDED"
        with asker(place, as_uid=(run_as, NOBODY)) as client:
            assert client("run('mem.populate', data=memory('m', 32))")["state"] == "SUCCEEDED"
        assert daemon.stop() == 0
    finally:
        daemon.kill()


def status(stubs: Stubs) -> control_pb2.Status:
    return stubs.control.GetStatus(control_pb2.GetStatusRequest()).status
