"""Makes, checks and locks the runtime directory."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path

from ktaskd.door.sockets.errors import DirectoryBusy, ListenError
from ktaskd.door.sockets.names import file_id_or_none, id_of
from ktaskd.host.sockets.unixsock import PATH_BYTES_MAX

LOCK_NAME = "ktaskd.lock"

_DIRECTORY_TRIES, _DIRECTORY_PAUSE_S = 5, 0.05


def check_length(path: Path) -> None:
    """Raise ListenError if a socket cannot have this path."""
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        raise ListenError(
            f"{path}: {size} bytes long, but a socket's path may have at most {PATH_BYTES_MAX};"
            " choose a shorter directory"
        )


def make_directory(path: Path, mode: int) -> None:
    """Make the directory, or check that only root and this daemon can change its contents."""
    try:
        path.mkdir(mode)
        path.chmod(mode)  # mkdir applies the umask
    except FileExistsError:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise ListenError(f"runtime directory {path}: is no directory; choose another path") from None
        if status.st_uid not in (0, os.geteuid()):
            raise ListenError(
                f"runtime directory {path}: belongs to uid {status.st_uid}, who could replace its sockets;"
                f" wanted uid {os.geteuid()} or 0"
            ) from None
        # A group with write access to root's directory could take over clients of every user.
        bits = stat.S_IWOTH | (stat.S_IWGRP if os.geteuid() == 0 else 0)
        if status.st_mode & bits:
            raise ListenError(
                f"runtime directory {path}: mode {stat.S_IMODE(status.st_mode):04o} lets other users replace"
                " its sockets; remove that right (chmod go-w)"
            ) from None


def lock(directory: Path, directory_fd: int) -> int:
    """Lock the directory and the lock file, and write our pid; return the file's descriptor.

    The file tells who is there. The directory is locked as well, since somebody may remove the file.

    Raises:
        DirectoryBusy: somebody else holds the lock.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(LOCK_NAME, flags, 0o644, dir_fd=directory_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file_id_or_none(LOCK_NAME, directory_fd) == id_of(os.fstat(fd)):
                _lock_directory(directory_fd)
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).strip()
            os.close(fd)
            raise DirectoryBusy(directory, int(pid) if pid.isdigit() else 0) from None
        except BaseException:
            os.close(fd)
            raise
        # Its last owner removed the file between our open and our lock.
        os.close(fd)


def _lock_directory(fd: int) -> None:
    """Lock the directory itself; raises BlockingIOError if a daemon holds the lock.

    A cleaner that looks through the directory holds it for a moment. On file systems that
    cannot lock directories the lock file has to do.
    """
    for left in reversed(range(_DIRECTORY_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_DIRECTORY_PAUSE_S)
        except OSError:
            return
