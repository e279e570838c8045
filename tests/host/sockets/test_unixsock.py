from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.host.sockets import unixsock
from ktaskd.host.sockets.unixsock import Fds

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def is_open(fd: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_descriptors_arrive_close_on_exec_and_are_closed_with_their_owner(pair: Pair) -> None:
    ours, theirs = pair
    unixsock.send(ours, b"two", [0, 1])
    message = unixsock.receive(theirs, 100)
    with message.fds:
        arrived = list(message.fds)
        assert (message.data, message.complete, len(arrived)) == (b"two", True, 2)
        assert not any(os.get_inheritable(fd) for fd in arrived)
    assert not any(is_open(fd) for fd in arrived)


def test_taken_descriptors_are_the_takers() -> None:
    with Fds(os.pipe()) as fds:
        first = fds.take_first()
        (second,) = fds
    assert is_open(first)
    assert not is_open(second)
    os.close(first)


@pytest.mark.parametrize(("bytes_max", "fds_max"), [(2, 253), (100, 2)])
def test_a_message_that_was_cut_is_not_complete(pair: Pair, bytes_max: int, fds_max: int) -> None:
    ours, theirs = pair
    unixsock.send(ours, b"long", [0, 1, 2])
    message = unixsock.receive(theirs, bytes_max, fds_max=fds_max)
    with message.fds:
        assert not message.complete
        assert len(message.fds) == min(3, fds_max)


def test_more_descriptors_than_an_int_array_needs_are_all_owned(pair: Pair) -> None:
    ours, theirs = pair
    unixsock.send(ours, b"x", [0] * unixsock.FDS_PER_MESSAGE_MAX)
    with unixsock.receive(theirs, 10).fds as fds:
        assert len(fds) == unixsock.FDS_PER_MESSAGE_MAX


def test_other_ancillary_data_is_passed_over(pair: Pair) -> None:
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    unixsock.send(ours, b"x", [0])
    with unixsock.receive(theirs, 10).fds as fds:
        assert len(fds) == 1


def test_peer_credentials_are_those_of_the_process_that_connected(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(tmp_path / "s"))
        listener.listen()
        code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
        with subprocess.Popen([sys.executable, "-c", code, os.fspath(tmp_path / "s")]) as process:
            sock, _ = listener.accept()
            with sock:
                assert unixsock.read_peer_credentials(sock) == (process.pid, os.geteuid(), os.getegid())
                pidfd = unixsock.open_peer_pidfd(sock)
                try:
                    assert (
                        pidfd == -1
                        or f"Pid:\t{process.pid}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
                    )
                    assert pidfd == -1 or not os.get_inheritable(pidfd)
                finally:
                    unixsock.close_quietly(pidfd)


def test_pidfd_of_a_socket_without_a_peer_is_none() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as alone:
        assert unixsock.open_peer_pidfd(alone) == -1


def test_sockets_accepted_from_a_refusing_listener_take_no_descriptors(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        can = unixsock.refuse_fds(listener)
        listener.bind(os.fspath(tmp_path / "s"))
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(os.fspath(tmp_path / "s"))
            with listener.accept()[0]:
                if not can:
                    pytest.skip("this kernel has no SO_PASSRIGHTS (Linux 6.16)")
                with pytest.raises(PermissionError):
                    unixsock.send(client, b"x", [0])
                unixsock.send(client, b"x")
