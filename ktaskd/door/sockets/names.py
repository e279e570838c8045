"""Names in a directory: which file each leads to, and their removal."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ktaskd.door.sockets.errors import ListenError

FileId = tuple[int, int]
"""Device and inode."""


def id_of(status: os.stat_result) -> FileId:
    """Return which file a status is of."""
    return status.st_dev, status.st_ino


def file_id(name: str, directory_fd: int) -> FileId:
    """Return the file that a name leads to; raises OSError."""
    return id_of(os.lstat(name, dir_fd=directory_fd))


def file_id_or_none(name: str, directory_fd: int) -> FileId | None:
    """Return the file that a name leads to; None if there is none."""
    try:
        return file_id(name, directory_fd)
    except OSError:
        return None


def remove_stale(path: Path, name: str, directory_fd: int) -> None:
    """Remove a dead daemon's socket. Assumes that this daemon holds the directory's lock."""
    try:
        status = os.lstat(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ListenError(f"{path}: exists and is no socket; remove it")
    os.unlink(name, dir_fd=directory_fd)


def remove_socket(name: str, directory_fd: int) -> None:
    """Remove a name if it is a socket."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(name, dir_fd=directory_fd).st_mode):
            os.unlink(name, dir_fd=directory_fd)


def remove_own(name: str, made: FileId, directory_fd: int) -> None:
    """Remove a socket if the name still leads to the file that was made."""
    # The inode number alone is no proof: it may belong to another kind of file by now.
    if file_id_or_none(name, directory_fd) == made:
        remove_socket(name, directory_fd)
