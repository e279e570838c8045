from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.host.sockets.notify import notify


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(30)
        yield listener


def test_notify_when_path_then_one_message(manager: socket.socket, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    manager.bind(path)
    assert notify("READY=1", "STATUS=up", environment={"NOTIFY_SOCKET": path})
    assert manager.recv(1000) == b"READY=1\nSTATUS=up"


def test_notify_when_abstract_then_sent(manager: socket.socket) -> None:
    name = f"ktaskd-test-{os.getpid()}"
    manager.bind(f"\0{name}")
    assert notify("STOPPING=1", environment={"NOTIFY_SOCKET": f"@{name}"})
    assert manager.recv(1000) == b"STOPPING=1"


def test_notify_when_value_has_a_newline_then_no_second_line(manager: socket.socket, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    manager.bind(path)
    notify("STATUS=a\nMAINPID=1", environment={"NOTIFY_SOCKET": path})
    assert manager.recv(1000) == b"STATUS=a MAINPID=1"


def test_notify_when_own_environment_then_used(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    manager.bind(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify("READY=1")


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/no/such/socket", "@", "/" + "x" * 200])
def test_notify_when_nobody_listens_then_false(address: str) -> None:
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": address})


def test_notify_when_manager_does_not_read_then_false_at_last(manager: socket.socket, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    manager.bind(path)
    environment = {"NOTIFY_SOCKET": path}
    # The queue of a datagram socket is bounded, so one of these is refused.
    assert not all(notify("WATCHDOG=1", environment=environment) for _ in range(100_000))
