"""The path of the metrics' socket."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from ktaskd.metrics.socketfile import SocketFile


def test_listen_when_made_then_the_mode_and_gone_after_the_end(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    made = SocketFile(os.fspath(path), mode=0o640)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o640
    made.close()
    assert not path.exists()


def test_listen_when_a_killed_daemon_left_its_socket_then_replaced(tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "m.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    SocketFile(path, mode=0o600).close()


def test_listen_when_somebody_listens_then_refused_and_theirs_stays(tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "m.sock")
    made = SocketFile(path, mode=0o600)
    with pytest.raises(OSError, match="another process listens there"):
        SocketFile(path, mode=0o600)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    made.close()


def test_listen_when_it_is_a_file_then_refused_and_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match="is no socket; remove it"):
        SocketFile(os.fspath(path), mode=0o600)
    assert path.read_text() == "mine"


def test_close_when_the_path_is_another_socket_by_now_then_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    made = SocketFile(os.fspath(path), mode=0o600)
    path.rename(tmp_path / "old")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(path))
        made.close()
        assert path.exists()
