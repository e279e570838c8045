"""Pool hosts of a real server next to the daemon: either can die and be started again."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ktaskd.model.worker import WorkerClass
from ktaskd.pool.pool import Pool, PoolSpec
from ktaskd.pool.starting import HelpersUnit
from tests.pool.realpool import CPUS, WorkerEvents, hang_up, idle, noop, run
from tests.pool.test_pool import alive
from tests.support.units import listening, start_unit
from tests.support.users import NOBODY, OtherUsers

KTASKD = Path(sys.executable).parent / "ktaskd"


class Server:
    """The socket of the helpers' unit, and the unit while it runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = listening(path)
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr = path.with_suffix(".log")

    def start(self) -> int:
        with self.stderr.open("ab") as log:
            self.process = start_unit([KTASKD, "--pool-hosts"], listener=self.listener, stderr=log)
        return self.process.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(30)

    def hosts(self) -> list[int]:
        assert self.process is not None
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def served(tmp_path: Path, *, started: bool = True) -> Iterator[Server]:
    server = Server(tmp_path / "helpers.sock")
    try:
        if started:
            server.start()
        yield server
    finally:
        status = server.end()
        server.listener.close()
    assert status == 0, server.stderr.read_text()


@asynccontextmanager
async def pool(path: Path, size: int = 2, **options: Any) -> AsyncIterator[tuple[Pool, WorkerEvents]]:
    events, numbers = WorkerEvents(), itertools.count(1)
    spec = PoolSpec("node0", WorkerClass.HELPER, 0, CPUS, size, size)
    made = Pool(spec, events, lambda: next(numbers), starter=HelpersUnit(path, **options))
    made.start()
    try:
        yield made, events
    finally:
        await made.close(10.0)


def test_host_when_of_the_server_then_its_workers_work_and_none_has_grpc(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path) as server:
            async with pool(server.path) as (made, events):
                assert "has not answered yet" in made.trouble
                await events.until(lambda: len(events.ready) == 2)
                assert made.trouble == ""
                assert [made.host_pid] == server.hosts()
                assert Path(f"/proc/{made.host_pid}/comm").read_text().strip() == "node0"
                worker = events.ready[0]
                assert worker.applied.policy == "idle"
                noop(worker)
                worker.send_chunk(1, 0, 1)
                await events.until(lambda: events.done)
                assert server.process is not None
                for pid in (server.process.pid, made.host_pid, worker.pid):
                    maps = Path(f"/proc/{pid}/maps").read_text()
                    assert "grpc" not in maps
                    assert "asyncio" not in maps
                processes = [made.host_pid, *(worker.pid for worker in made.workers)]
            assert not any(alive(pid) for pid in processes)

    run(story())


def test_two_pools_when_of_one_server_then_each_has_its_host(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path) as server:
            async with pool(server.path, 1) as (one, heard), pool(server.path, 1) as (other, heard_too):
                await heard.until(lambda: heard.ready and heard_too.ready)
                assert {one.host_pid, other.host_pid} == set(server.hosts())
                assert one.host_pid != other.host_pid

    run(story())


def test_server_when_killed_then_no_worker_is_left_and_all_come_back_with_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path) as server:
            async with pool(server.path) as (made, events):
                await events.until(lambda: len(events.ready) == 2)
                processes = [made.host_pid, *(worker.pid for worker in made.workers)]
                assert server.end(signal.SIGKILL) == -signal.SIGKILL
                await events.until(lambda: len(events.dead) == 2)
                await events.until(lambda: not any(alive(pid) for pid in processes))
                # The socket belongs to the service manager, so connecting succeeds before the server runs.
                await events.until(lambda: "has not answered yet" in made.trouble)
                assert made.host_pid == 0
                server.start()
                await events.until(lambda: len(idle(made)) == 2)
                assert made.trouble == ""
                assert made.host_respawns == 1

    run(story())


def test_server_when_terminated_then_its_hosts_and_workers_end(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path) as server:
            async with pool(server.path) as (made, events):
                await events.until(lambda: len(events.ready) == 2)
                for worker in made.workers:
                    os.kill(worker.pid, signal.SIGSTOP)  # it would never see an end of file
                processes = [made.host_pid, *(worker.pid for worker in made.workers)]
                assert server.end() == 0
                assert not any(alive(pid) for pid in processes)

    run(story())


def test_host_when_killed_then_the_server_makes_another(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path) as server:
            async with pool(server.path) as (made, events):
                await events.until(lambda: len(events.ready) == 2)
                pids = [worker.pid for worker in made.workers]
                os.kill(made.host_pid, signal.SIGKILL)
                await events.until(lambda: len(events.dead) == 2)
                assert not any(alive(pid) for pid in pids)
                await events.until(lambda: len(idle(made)) == 2)
                assert len(server.hosts()) == 1, "the dead one was waited for"

    run(story())


def test_worker_when_killed_then_its_status_is_reported(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path) as server:
            async with pool(server.path, 1) as (made, events):
                await events.until(lambda: events.ready)
                os.kill(events.ready[0].pid, signal.SIGSEGV)
                await events.until(lambda: events.dead)
                assert str(events.dead[0][1]) == "killed by SIGSEGV"
                await events.until(lambda: idle(made))

    run(story())


def test_daemon_when_it_dies_then_its_host_ends_and_the_server_stays(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path) as server:
            async with pool(server.path) as (made, events):
                await events.until(lambda: len(events.ready) == 2)
                processes = [made.host_pid, *(worker.pid for worker in made.workers)]
                for pid in processes[1:]:
                    os.kill(pid, signal.SIGSTOP)
                hang_up(made)
                await events.until(lambda: not any(alive(pid) for pid in processes))
            async with pool(server.path) as (made, events):
                await events.until(lambda: len(events.ready) == 2)

    run(story())


def test_server_when_it_never_answers_then_the_loop_goes_on_and_the_pool_closes(tmp_path: Path) -> None:
    async def story() -> None:
        with served(tmp_path, started=False) as server:
            events, numbers = WorkerEvents(), itertools.count(1)
            spec = PoolSpec("node0", WorkerClass.HELPER, 0, CPUS, 1, 1)
            made = Pool(spec, events, lambda: next(numbers), starter=HelpersUnit(server.path))
            made.start()
            assert "has not answered yet" in made.trouble
            await made.close(0.1)
            assert not list(made.workers)

    run(story())


def test_socket_when_missing_then_the_reason_is_shown_and_it_is_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "helpers.sock"
        async with pool(path) as (made, events):
            assert str(path) in made.trouble
            assert "No such file" in made.trouble
            assert "ktaskd-helpers.socket" in made.trouble
            with served(tmp_path):
                await events.until(lambda: len(idle(made)) == 2)
                assert made.trouble == ""

    run(story())


def test_socket_when_its_queue_is_full_then_nothing_waits(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "helpers.sock"
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            full.bind(str(path))
            full.listen(0)
            first = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            first.connect(str(path))
            async with pool(path) as (made, _ears):
                assert "temporarily unavailable" in made.trouble

    run(story())


@pytest.mark.other_uid
def test_socket_when_it_is_another_users_then_nothing_is_sent_there(run_as: OtherUsers) -> None:
    path = run_as.home(NOBODY) / "helpers.sock"
    listen = (
        "import socket, sys\n"
        "sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"sock.bind({str(path)!r})\n"
        "sock.listen(5)\n"
        "print('listening', flush=True)\n"
        "print(sock.accept()[0].recv(9))\n"
    )

    async def story() -> None:
        with run_as.start(NOBODY, listen, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "listening\n"
            async with pool(path) as (made, _ears):
                assert f"belongs to uid {NOBODY}" in made.trouble
            assert other.stdout.readline() == "b''\n"
            other.kill()

    run(story())


@pytest.mark.other_uid
def test_server_when_another_user_connects_then_not_served(reachable_dir: Path, run_as: OtherUsers) -> None:
    with served(reachable_dir) as server:
        server.path.chmod(0o666)
        code = (
            "import socket\n"
            "sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            f"sock.connect({str(server.path)!r})\n"
            "print(sock.recv(100))\n"
        )
        assert run_as(NOBODY, code).stdout == "b''\n"
        assert not server.hosts()
        assert re.search(rf"WARNING .* not_served pid=\d+ uid={NOBODY}\n", server.stderr.read_text())


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, None])
def test_server_when_it_gets_no_such_socket_then_an_error(
    tmp_path: Path, kind: socket.SocketKind | None
) -> None:
    with contextlib.ExitStack() as stack:
        sock = None
        if kind is not None:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            sock.bind(str(tmp_path / "sock"))
            sock.listen()
        process = start_unit([KTASKD, "--pool-hosts"], listener=sock, stderr=subprocess.PIPE)
        _, errors = process.communicate()
        assert process.returncode == 2
        assert b"ktaskd: --pool-hosts: LISTEN_FDS: " in errors
        assert (b"wanted 1" if kind is None else b"seqpacket") in errors
