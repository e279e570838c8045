"""Root's daemon in the directory that was made for a daemon of the workers' user.

The package and the service manager give /run/ktaskd to that user, as whom the service runs. Where
nothing but root starts the daemon, as in a container, the directory is in the way: its owner could
replace the sockets. So root takes it, unless somebody is there; the service manager gives it back
to the user whenever it starts the service.
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
    """Have the directory belong to root, if it belongs to `owner`. Needs uid 0.

    Raises:
        DirectoryBusy: a daemon is running there.
        ListenError: somebody else listens there, or it cannot be taken.
    """
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError:
        return  # not there, or no directory: whoever claims it has the words for that
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
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a daemon has it for as long as it lives
    for name in (RELAY_NAME, HANDOFF_NAME):
        if listens(root, path / name):
            raise ListenError(
                f"{path / name}: the service manager listens there; start the daemon by it (systemctl start "
                "ktaskd), or stop it first (systemctl stop ktaskd.socket)"
            )
    os.fchown(fd, 0, 0)
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    # From here on its former owner changes nothing in it. What it has left is not used: a
    # name of ours may be a link to a file of somebody else.
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
