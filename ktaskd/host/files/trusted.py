"""Files whose content nobody but root and our own user can have made, however they are reached.

Whoever owns a directory, or may write it, can put another file in the place of one that is root's.
So every directory on the way is looked at, those behind symbolic links too, and what is used is the
descriptor that was looked at.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass

_LINKS_MAX = 40
"""As the kernel has it. Source: path_resolution(7)"""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Untrusted(Exception):
    """Somebody else could have made it, or can put another one in its place."""


def open_file(path: str) -> int:
    """Open a regular file for reading; the caller owns the descriptor.

    Args:
        path: absolute.
    Raises:
        Untrusted: somebody else may write it, or a directory or a link on the way.
        OSError: it cannot be opened.
    """
    return _opened(path, directory=False)


def open_directory(path: str) -> int:
    """The same for a directory."""
    return _opened(path, directory=True)


def check_file(fd: int) -> None:
    """Raise Untrusted unless an open file still is what `open_file` opens."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Untrusted("is no regular file")
    _check(status)


def check_tree(path: str) -> None:
    """Raise Untrusted or OSError unless all below a directory, or a file, is ours or root's alone."""
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
            raise Untrusted(f"is no {'directory' if directory else 'regular file'}")
        if not directory:
            _check(status)
        fd = os.open(walk.name, _READ, dir_fd=walk.parent)
        if not os.path.samestat(os.fstat(fd), status):
            os.close(fd)
            raise OSError(errno.ESTALE, "was replaced while it was opened; start again")
        return fd


@dataclass(slots=True)
class _Walk:
    """Goes from directory to directory, and looks at each; holds the last one and what was found in it."""

    parent: int = -1
    found: int = -1
    name: str = "."
    shown: str = "/"

    def __enter__(self) -> _Walk:
        """Nothing is open yet."""
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
        """Stand at the root."""
        self.__exit__()
        self.parent, self.found = -1, os.open("/", _LOOK | os.O_DIRECTORY)
        self.name, self.shown = ".", "/"
        self._check_directory(os.fstat(self.found))
        self.parent = os.dup(self.found)

    def _enter(self, name: str) -> None:
        """Find a name in what was found before."""
        if self.found >= 0:
            if self.parent >= 0:
                os.close(self.parent)
            self.parent, self.found = self.found, -1
        self.found = os.open(name, _LOOK, dir_fd=self.parent)
        self.name, self.shown = name, os.path.join(self.shown, name)

    def _back(self, target: str) -> None:
        """Leave a link, for the directory that it counts from."""
        if target.startswith("/"):
            self._begin()
        else:
            os.close(self.found)
            self.found, self.shown = -1, os.path.dirname(self.shown)

    def _check_directory(self, status: os.stat_result) -> None:
        self._check_owner(status, "directory")
        # In a sticky directory, as /tmp is, nobody replaces what is another user's.
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            words = f"others may write its directory {self.shown} (mode {stat.S_IMODE(status.st_mode):04o})"
            raise Untrusted(f"{words}; chmod go-w it")

    def _check_owner(self, status: os.stat_result, kind: str) -> None:
        if status.st_uid not in (0, os.geteuid()):
            words = f"its {kind} {self.shown} belongs to uid {status.st_uid}, who can replace it"
            raise Untrusted(f"{words}; wanted 0 or {os.geteuid()}")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _check(status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise Untrusted(f"belongs to uid {status.st_uid}, wanted 0 or {os.geteuid()}")
    if status.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        raise Untrusted(f"others may write it (mode {mode:04o}), wanted its owner only")


def _named(path: str, status: os.stat_result) -> None:
    try:
        _check(status)
    except Untrusted as error:
        raise Untrusted(f"{path} {error}") from error
