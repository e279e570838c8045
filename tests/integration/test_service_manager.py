"""A daemon and its service manager: what is reported to it, and sockets that come from it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.integration.launcher import launcher, listening
from tests.support.real_daemon import (
    PATIENCE_S,
    connected,
    handed_over,
    memory,
    spec,
    spin,
    starting,
    state_name,
    works,
    write_config,
)

SIZE = 4096


class Manager:
    """The socket that a service manager listens to."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(os.fspath(path))
        self.sock.settimeout(PATIENCE_S)

    def next(self) -> dict[str, str]:
        """The next message, by key."""
        text = self.sock.recv(4096).decode()
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def until(self, key: str) -> dict[str, str]:
        while key not in (found := self.next()):
            pass
        return found


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify"
    made = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with made.sock:
        yield made


def test_notify_when_it_lives_then_ready_reloading_stopping(
    place: Path, tmp_path: Path, manager: Manager
) -> None:
    config = write_config(tmp_path / "c", jobs={"kept": 5})
    with starting(place, "--config", config) as daemon:
        assert manager.next()["READY"] == "1"
        assert works(daemon)  # ready means that a job can run
        for text in ("[jobs]\nkept = 6\n", "no = configuration"):
            config.write_text(text)
            before_us = time.monotonic_ns() // 1000
            daemon.signal(signal.SIGHUP)
            told = manager.next()
            assert told["RELOADING"] == "1"
            assert before_us <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert manager.next()["READY"] == "1"
        with connected(daemon.socket) as stubs:
            status = stubs.control.GetStatus(control_pb2.GetStatusRequest()).status
        assert {limit.name: limit.value for limit in status.limits}["jobs_kept"] == 6
        daemon.signal(signal.SIGTERM)
        assert manager.next()["STOPPING"] == "1"
        assert daemon.wait() == 0, daemon.log()


def test_activation_when_both_sockets_are_passed_then_used_and_left_in_place(place: Path) -> None:
    place.mkdir()
    relay, handoff = place / "ktaskd.sock", place / "handoff.sock"
    with (
        listening(handoff, socket.SOCK_SEQPACKET) as second,
        listening(relay, socket.SOCK_STREAM) as first,
        connected(relay) as stubs,
    ):
        # This connects before there is a daemon; the kernel keeps the connection.
        early = stubs.jobs.Run.future(pb.RunRequest(spec=spin(1, 1)), timeout=PATIENCE_S)
        with starting(place, popen=launcher(second, first)) as daemon, memory(SIZE) as fd:
            assert state_name(early.result().job) == "SUCCEEDED"
            with handed_over(handoff, fd) as (handle,):
                fill = spec("mem.fill", arg={"value": 3}, sources={"data": {"handle": handle}})
                job = stubs.jobs.Run(pb.RunRequest(spec=fill), timeout=PATIENCE_S).job
            assert state_name(job) == "SUCCEEDED"
            assert os.pread(fd, SIZE, 0) == bytes([3]) * SIZE
            assert daemon.stop() == 0, daemon.log()
        assert sorted(path.name for path in place.iterdir()) == ["handoff.sock", "ktaskd.sock"]
        for path in (relay, handoff):
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
        # The next daemon gets the sockets again, and a client that connects in between waits for it.
        late = stubs.jobs.Run.future(pb.RunRequest(spec=spin(1, 1)), timeout=PATIENCE_S, wait_for_ready=True)
        with starting(place, popen=launcher(second, first)) as daemon:
            assert state_name(late.result().job) == "SUCCEEDED"
            assert daemon.stop() == 0, daemon.log()


def test_activation_when_only_one_is_passed_then_the_other_is_made(place: Path) -> None:
    place.mkdir()
    with listening(place / "ktaskd.sock", socket.SOCK_STREAM) as sock:
        with starting(place, popen=launcher(sock)) as daemon:
            daemon.wait_ready()
            assert works(daemon)
            with memory(SIZE) as fd, handed_over(daemon.handoff, fd) as handles:
                assert len(handles) == 1
            assert daemon.stop() == 0, daemon.log()
        assert [path.name for path in place.iterdir()] == ["ktaskd.sock"]


def test_activation_when_something_else_is_passed_then_1_and_said(place: Path) -> None:
    place.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        with starting(place, popen=launcher(sock)) as daemon:
            assert daemon.wait() == 1
        assert "wanted a listening unix socket, stream or seqpacket" in daemon.log()
        assert "Traceback" not in daemon.log()
        assert not list(place.iterdir())
