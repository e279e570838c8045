"""Unix sockets: the peer of a connection, and file descriptors in messages."""

from __future__ import annotations

import array
import os
import select
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SO_PEERPIDFD = 77
"""Since Linux 6.5; the socket module has no name for it. Source: asm-generic/socket.h."""

SO_PASSRIGHTS = 83
"""Since Linux 6.16; 0 = a sender of descriptors gets EPERM. Source: asm-generic/socket.h."""

FDS_PER_MESSAGE_MAX = 253
"""Descriptors in one message. Source: SCM_MAX_FD, unix(7)."""

PATH_BYTES_MAX = 107
"""sun_path has 108 bytes, one of them for the NUL. Source: unix(7)."""

_UCRED = struct.Struct("3i")


class Fds:
    """Owns open file descriptors until they are taken or closed.

    A context manager: descriptors that were not taken by the end are closed.
    """

    def __init__(self, fds: Iterable[int] = ()) -> None:
        """Become the owner of `fds`."""
        self._fds = list(fds)

    def __len__(self) -> int:
        """Number of descriptors that it owns."""
        return len(self._fds)

    def __iter__(self) -> Iterator[int]:
        """The descriptors, still owned."""
        return iter(self._fds)

    def __enter__(self) -> Fds:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the descriptors that were not taken."""
        self.close()

    def add(self, fd: int) -> None:
        """Own one more descriptor."""
        self._fds.append(fd)

    def take(self) -> list[int]:
        """Give all to the caller, who then owns them."""
        taken, self._fds = self._fds, []
        return taken

    def take_first(self) -> int:
        """Give the first one to the caller, who then owns it."""
        return self._fds.pop(0)

    def close(self) -> None:
        """Close all that are left. Blocks for as long as the kernel's close does."""
        for fd in self.take():
            close_quietly(fd)


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram; the receiver owns `fds`.

    Args:
        complete: False if bytes or descriptors did not fit and were lost.
    """

    data: bytes
    fds: Fds
    complete: bool


def close_quietly(fd: int) -> None:
    """Close `fd` and ignore errors, since nothing can be done about them.

    Linux frees the descriptor even if close fails. Source: close(2).
    """
    try:
        os.close(fd)
    except OSError:
        return


def read_peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """pid, uid and gid that the other end had when it connected.

    Source: SO_PEERCRED, unix(7).
    """
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def open_peer_pidfd(sock: socket.socket) -> int:
    """A pidfd of the process that connected, owned by the caller.

    Returns:
        -1 if the kernel cannot do it, or the process is gone.
    """
    try:
        return sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError:
        return -1


def has_hung_up(sock: socket.socket) -> bool:
    """Whether the other end of a connection was closed, even if data is still unread."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def refuse_fds(listener: socket.socket) -> bool:
    """Refuse descriptors sent to this socket and to connections that it accepts.

    Without this the kernel drops them in the reading process, and dropping the last reference to
    a file can block for as long as the file's owner wants.

    Returns:
        False if the kernel cannot do it (before Linux 6.16).
    """
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def receive(
    sock: socket.socket, bytes_max: int, *, fds_max: int = FDS_PER_MESSAGE_MAX, flags: int = 0
) -> Message:
    """Read one datagram with the descriptors in it, all close-on-exec.

    Not socket.recv_fds: that ignores its flags (cpython#128881).

    Args:
        bytes_max: longest message; a longer one is truncated and not `complete`.
        fds_max: room for descriptors; the kernel closes those that do not fit, and
            the message is not `complete`.
    Raises:
        OSError: as recvmsg(2), BlockingIOError included.
    """
    space = socket.CMSG_SPACE(fds_max * array.array("i").itemsize)
    data, ancillary, got, _ = sock.recvmsg(bytes_max, space, flags | socket.MSG_CMSG_CLOEXEC)
    # Own the descriptors before anything below can fail.
    fds = Fds(fd for item in ancillary for fd in _fds_of(*item))
    return Message(data, fds, not got & (socket.MSG_TRUNC | socket.MSG_CTRUNC))


def _fds_of(level: int, kind: int, payload: bytes) -> array.array[int]:
    numbers = array.array("i")
    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
        numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
    return numbers


def send(sock: socket.socket, data: bytes, fds: Iterable[int] = (), *, flags: int = 0) -> None:
    """Send one datagram with copies of descriptors; the caller keeps its own.

    Raises:
        OSError: as sendmsg(2); ETOOMANYREFS if too many descriptors are in flight.
    """
    numbers = array.array("i", fds)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if numbers else []
    sock.sendmsg([data], rights, flags | socket.MSG_NOSIGNAL)
