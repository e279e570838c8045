"""Pings for the service manager."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.daemon.watchdog import interval_s

KTASKD = Path(sys.executable).parent / "ktaskd"
WAIT_S = 60.0


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_interval_when_asked_for_then_half_of_the_time(environ: dict[str, str], wanted: float) -> None:
    assert interval_s(environ, 7) == wanted


class Manager:
    """Acts as a service manager: listens, and starts a daemon."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard.bind(str(directory / "notify"))
        self.heard.settimeout(WAIT_S)
        words = [str(KTASKD), "--runtime-dir", str(directory / "run")]
        self.process = subprocess.Popen(
            words, env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify"), **environ}
        )

    def until(self, wanted: str) -> list[str]:
        """Wait for the message with this line."""
        while True:
            lines = self.heard.recv(65536).decode().split("\n")
            if wanted in lines:
                return lines


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path, WATCHDOG_USEC="200000")
    yield made
    made.process.send_signal(signal.SIGCONT)
    made.process.terminate()
    made.process.wait(WAIT_S)
    made.heard.close()


def test_daemon_when_watched_then_it_pings_and_says_how_it_is(manager: Manager, tmp_path: Path) -> None:
    manager.until("READY=1")
    lines = manager.until("WATCHDOG=1")
    assert any(line.startswith("STATUS=0 jobs; 0 of ") for line in lines)
    manager.until("WATCHDOG=1")
    manager.process.send_signal(signal.SIGHUP)
    lines = manager.until("RELOADING=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in lines)
    manager.until("READY=1")
    (tmp_path / "run/inner/grpc.sock").unlink()
    # Nobody can reach it any more: it reports that and ends, so that it is started again.
    while "grpc.sock was removed" not in (lines := manager.heard.recv(65536).decode().split("\n"))[0]:
        assert lines[0] in {"WATCHDOG=1", "STATUS=ready"}
    assert "WATCHDOG=1" not in lines
    manager.until("STOPPING=1")
    assert manager.process.wait(WAIT_S) == 1


def test_daemon_when_nobody_watches_then_no_ping(tmp_path: Path) -> None:
    made = Manager(tmp_path)
    try:
        made.until("READY=1")
    finally:
        made.process.terminate()
        made.process.wait(WAIT_S)
    heard = []
    made.heard.setblocking(False)
    try:
        while True:
            heard.append(made.heard.recv(65536))
    except BlockingIOError:
        made.heard.close()
    assert not [text for text in heard if b"WATCHDOG" in text]
