"""Lets root's daemon use the directory that was made for a daemon of the workers' user.

The package and the service manager give /run/ktaskd to that user, since the service runs as that
user. When root starts the daemon without a service manager, as in a container, root cannot use the
directory as it is: its owner could replace the sockets. So root takes the directory over, unless a daemon
uses it; the service manager gives it back to the user whenever it starts the service.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from ktaskd.door.sockets.rundir import (
    HANDOFF_NAME,
    INNER_NAME,
    LOCK_NAME,
    RELAY_NAME,
    DirectoryBusy,
    ListenError,
)
from ktaskd.host.root import HostRoot
from ktaskd.host.sockets.listening import listens

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def take_over(path: Path, owner: int, root: HostRoot) -> None:
    """Make root the owner of the directory, if it belongs to `owner`. Needs uid 0.

    Raises:
        DirectoryBusy: a daemon is running there.
        ListenError: another process listens there, or the owner cannot be changed.
    """
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError:
        return  # missing, or no directory: RuntimeDir.claim reports it
    try:
        if os.fstat(fd).st_uid != owner:
            return
        _take(path, fd, owner, root)
    except BlockingIOError:
        raise DirectoryBusy(path, 0) from None
    except OSError as error:
        raise ListenError(f"runtime directory {path}: {error.strerror}") from error
    finally:
        os.close(fd)


def _take(path: Path, fd: int, owner: int, root: HostRoot) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a daemon holds this lock as long as it lives
    for name in (RELAY_NAME, HANDOFF_NAME):
        if listens(root, path / name):
            raise ListenError(
                f"{path / name}: the service manager listens there; start the daemon with it (systemctl "
                "start ktaskd), or stop its socket first (systemctl stop ktaskd.socket)"
            )
    os.fchown(fd, 0, 0)
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    # From here on the former owner can change nothing in it. Files that it left are not used: one
    # of our names may be a link to another user's file.
    for name in (RELAY_NAME, HANDOFF_NAME, LOCK_NAME):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name, dir_fd=fd)
    _take_inner(fd, owner)


def _take_inner(directory: int, owner: int) -> None:
    try:
        fd = os.open(INNER_NAME, _DIRECTORY, dir_fd=directory)
    except OSError:
        return
    try:
        if os.fstat(fd).st_uid == owner:
            os.fchown(fd, 0, 0)
    finally:
        os.close(fd)
