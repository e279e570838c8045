"""Open only files that nobody but root and our own user can have made or replaced.

The owner of a directory, and every user who can write it, can replace a file in it that belongs to
root. So every directory on the way is checked, also those behind symbolic links, and the caller uses
the very descriptor that was checked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass

_LINKS_MAX = 40
"""The kernel's limit. Source: path_resolution(7)"""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Untrusted(Exception):
    """Another user could have made the file, or can replace it."""


def open_file(path: str) -> int:
    """Open a regular file for reading; the caller owns the descriptor.

    Args:
        path: absolute.
    Raises:
        Untrusted: another user can write it, or replace a directory or a link on the way.
        OSError: it cannot be opened.
    """
    return _opened(path, directory=False)


def open_directory(path: str) -> int:
    """The same for a directory."""
    return _opened(path, directory=True)


def check_file(fd: int) -> None:
    """Raise Untrusted unless an open file still meets the rules of `open_file`."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Untrusted("is not a regular file")
    _check(status)


def check_tree(path: str) -> None:
    """Raise Untrusted or OSError unless a file, or everything below a directory, is only ours or root's."""
    if not os.path.isdir(path):
        os.close(open_file(path))
        return
    fd = open_directory(path)
    try:
        for shown, _, files, below in os.fwalk(".", dir_fd=fd, onerror=_raise):
            where = os.path.normpath(os.path.join(path, shown))
            _named(where, os.fstat(below))
            for name in files:
                status = os.stat(name, dir_fd=below, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode):
                    _named(os.path.join(where, name), status)
    finally:
        os.close(fd)


def _raise(error: OSError) -> None:
    raise error


def _opened(path: str, *, directory: bool) -> int:
    with _Walk() as walk:
        walk.follow(path)
        status = os.fstat(walk.found)
        if directory != stat.S_ISDIR(status.st_mode) or not (directory or stat.S_ISREG(status.st_mode)):
            raise Untrusted(f"is not a {'directory' if directory else 'regular file'}")
        if not directory:
            _check(status)
        fd = os.open(walk.name, _READ, dir_fd=walk.parent)
        if not os.path.samestat(os.fstat(fd), status):
            os.close(fd)
            raise OSError(errno.ESTALE, "was replaced while it was opened; try again")
        return fd


@dataclass(slots=True)
class _Walk:
    """Walks a path and checks each directory; holds the last one and the entry found in it."""

    parent: int = -1
    found: int = -1
    name: str = "."
    shown: str = "/"

    def __enter__(self) -> _Walk:
        """Open nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close both."""
        for fd in (self.parent, self.found):
            if fd >= 0:
                os.close(fd)

    def follow(self, path: str) -> None:
        """Go to the end of a path; raises Untrusted, OSError."""
        self._begin()
        todo, links = deque(_parts(path)), 0
        while todo:
            name = todo.popleft()
            self._enter(name)
            status = os.fstat(self.found)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                self._check_owner(status, "symbolic link")
                target = os.readlink("", dir_fd=self.found)
                todo.extendleft(reversed(_parts(target)))
                self._back(target)
            elif stat.S_ISDIR(status.st_mode):
                self._check_directory(status)
            elif todo:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def _begin(self) -> None:
        """Start at the root directory."""
        self.__exit__()
        self.parent, self.found = -1, os.open("/", _LOOK | os.O_DIRECTORY)
        self.name, self.shown = ".", "/"
        self._check_directory(os.fstat(self.found))
        self.parent = os.dup(self.found)

    def _enter(self, name: str) -> None:
        """Open a name in the directory that was found last."""
        if self.found >= 0:
            if self.parent >= 0:
                os.close(self.parent)
            self.parent, self.found = self.found, -1
        self.found = os.open(name, _LOOK, dir_fd=self.parent)
        self.name, self.shown = name, os.path.join(self.shown, name)

    def _back(self, target: str) -> None:
        """Return from a symbolic link to the directory that its target is relative to."""
        if target.startswith("/"):
            self._begin()
        else:
            os.close(self.found)
            self.found, self.shown = -1, os.path.dirname(self.shown)

    def _check_directory(self, status: os.stat_result) -> None:
        self._check_owner(status, "directory")
        # In a sticky directory such as /tmp nobody can replace a file of another user.
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(status.st_mode)
            words = f"other users can write its directory {self.shown} (mode {mode:04o})"
            raise Untrusted(f"{words}; run chmod go-w on it")

    def _check_owner(self, status: os.stat_result, kind: str) -> None:
        if status.st_uid not in (0, os.geteuid()):
            words = f"its {kind} {self.shown} belongs to uid {status.st_uid}, who can replace it"
            raise Untrusted(f"{words}; it must belong to uid 0 or {os.geteuid()}")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _check(status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise Untrusted(f"belongs to uid {status.st_uid}; it must belong to uid 0 or {os.geteuid()}")
    if status.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        raise Untrusted(f"other users can write it (mode {mode:04o}); run chmod go-w on it")


def _named(path: str, status: os.stat_result) -> None:
    try:
        _check(status)
    except Untrusted as error:
        raise Untrusted(f"{path} {error}") from error
