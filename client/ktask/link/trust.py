"""Which daemons the library trusts with descriptors, arguments and pickled code.

A daemon can read every descriptor and every argument that it gets, so the library sends
them only to a daemon that could have them anyway. It checks before it sends the first byte,
on every connection to either socket, and trusts a daemon when both of these hold:

* **The directory of the sockets** belongs to root or to the caller, is not writable for
  everybody, and is writable for its group only if it is the caller's own. The directory is
  held open, and both sockets are reached through that descriptor, so that nobody can put
  another directory in its place.
* **The listening process** had uid 0 or the caller's effective uid when it called listen(2),
  as SO_PEERCRED reports. A socket that systemd passes to a service counts as root's.

The system's directory, SYSTEM_DIR, is the exception: only root can make anything in its
parent, so root gave the directory to its owner. There the daemon may also run as the uid that
owns the directory, as the package's user `ktaskd` does.

In a user namespace that does not map every uid, all unmapped users look like the overflow
uid, 65534. That uid is never taken for the caller or for root; only the exception above applies.

Source: unix(7), SO_PEERCRED; user_namespaces(7), "Unmapped user and group IDs".
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from functools import cache

from ktask.errors import DaemonNotTrusted

SYSTEM_DIR = "/run/ktaskd"

_UCRED = struct.Struct("3i")
_ALL_UIDS = 2**32 - 1
"""The number that the initial user namespace maps. Source: user_namespaces(7)"""
_OVERFLOW_UID = 65534

_ADVICE = (
    "name a daemon of root or of your own (--socket, KTASKD_SOCKET), or start one of your own: "
    "ktask.connect(own=True)"
)


class Anchor:
    """Owns a descriptor of a trusted directory; close it.

    Raises:
        OSError: there is no such directory.
        DaemonNotTrusted: another user could replace its contents.
    """

    def __init__(self, directory: str) -> None:
        """Open and check it."""
        self.directory = directory
        self._fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._status = os.fstat(self._fd)
            self._is_system = _is_system(self._status)
            self._check_directory()
        except BaseException:
            self.close()
            raise

    def path(self, name: str) -> str:
        """A path to an entry of this very directory, even if another one has its name by now."""
        through = f"/proc/self/fd/{self._fd}"
        return os.path.join(through if os.path.isdir(through) else self.directory, name)

    def is_replaced(self) -> bool:
        """Whether another directory has the name by now."""
        try:
            return not os.path.samestat(self._status, os.stat(self.directory))
        except OSError:
            return False

    def check_peer(self, connection: socket.socket, path: str) -> None:
        """Raise DaemonNotTrusted unless a trusted process listens at the other end.

        Args:
            path: the socket, for the message.
        """
        _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if _is_trusted(uid) or (self._is_system and uid == self._status.st_uid):
            return
        raise DaemonNotTrusted(
            f'socket "{path}": {_name(uid)} listens there and could read everything you hand over; '
            f"you are uid {os.geteuid()}; {_ADVICE}",
            uid,
        )

    def close(self) -> None:
        """Close the directory; a second time does nothing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _check_directory(self) -> None:
        owner, mode = self._status.st_uid, stat.S_IMODE(self._status.st_mode)
        what = f'directory "{self.directory}"'
        if not (_is_trusted(owner) or self._is_system):
            raise DaemonNotTrusted(
                f"{what}: belongs to {_name(owner)}, who could read everything you hand over to a daemon "
                f"there; you are uid {os.geteuid()}; {_ADVICE}",
                owner,
            )
        own = owner == os.geteuid() and not _is_unknown(owner)
        if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not own):
            raise DaemonNotTrusted(
                f"{what}: mode {mode:04o} lets other users replace the sockets in it; "
                "remove that right (chmod go-w), or " + _ADVICE,
                owner,
            )


@contextlib.contextmanager
def anchored(directory: str) -> Iterator[Anchor]:
    """A trusted directory, open inside the context; raises as Anchor does."""
    anchor = Anchor(directory)
    try:
        yield anchor
    finally:
        anchor.close()


def _is_system(found: os.stat_result) -> bool:
    """Whether a directory is the system's, which only root could have made and given away."""
    try:
        system = os.lstat(SYSTEM_DIR)
        parent = os.stat(os.path.dirname(SYSTEM_DIR))
    except OSError:
        return False
    if not stat.S_ISDIR(system.st_mode) or not os.path.samestat(found, system):
        return False
    # In a namespace that does not map root the parent may look unmapped; only root owns /run.
    closed = not parent.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return closed and (_is_trusted(parent.st_uid) or _is_unknown(parent.st_uid))


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid()) and not _is_unknown(uid)


def _is_unknown(uid: int) -> bool:
    """Whether this uid may stand for any user that the namespace does not map."""
    return uid == _OVERFLOW_UID and not _maps_every_uid()


@cache
def _maps_every_uid() -> bool:
    try:
        with open("/proc/self/uid_map", encoding="ascii") as lines:
            return sum(int(line.split()[2]) for line in lines) >= _ALL_UIDS
    except (OSError, ValueError, IndexError):
        return True  # without /proc a user namespace cannot be detected


def _name(uid: int) -> str:
    if _is_unknown(uid):
        return f"a user that this user namespace does not map (shown as uid {uid})"
    return f"uid {uid}"
