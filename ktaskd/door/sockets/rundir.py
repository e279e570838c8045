"""The runtime directory: one daemon's while it lives, whatever becomes of its name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import socket
import stat
import time
from pathlib import Path

from ktask.v1 import calls

from ktaskd.host.sockets.unixsock import PATH_BYTES_MAX, close_quietly, refuse_fds

RELAY_NAME = "ktaskd.sock"
HANDOFF_NAME = "handoff.sock"
LOCK_NAME = "ktaskd.lock"
INNER_NAME = calls.DIRECTORY
GRPC_NAME = "grpc.sock"

_UNPUBLISHED = "g"
"""With 8 digits after it a name is as long as GRPC_NAME, whose path fits into a socket's address."""

KINDS = {socket.SOCK_STREAM: RELAY_NAME, socket.SOCK_SEQPACKET: HANDOFF_NAME}

BACKLOG = 4096
"""Connections that wait to be accepted; the kernel may hold fewer (somaxconn)."""

_DIRECTORY_TRIES, _DIRECTORY_PAUSE_S = 5, 0.05

_Place = tuple[int, int]
"""Device and inode."""


class ListenError(Exception):
    """The daemon cannot be reached the way it was told to; the text says why."""


class DirectoryBusy(ListenError):
    """Another daemon holds the runtime directory.

    Args:
        pid: what the lock file says; 0 if it says nothing.
    """

    def __init__(self, path: Path, pid: int) -> None:
        """Say which directory and who."""
        who = f"pid {pid}" if pid else "another process"
        super().__init__(f"runtime directory {path}: a daemon is running there already ({who})")
        self.pid = pid


class RuntimeDir:
    """A directory that belongs to this daemon while it lives.

    Claiming it is the first thing a daemon does: grpc takes an existing socket
    path from its owner without a word, and removes it at its end.

    The directory is held open and locked. All that happens in it later happens in this very
    directory: somebody may remove it or put another in its place, in which another daemon
    then works. systemd-tmpfiles and other cleaners leave a locked directory alone.

    Source: tmpfiles.d(5), on BSD file locks
    """

    def __init__(self, path: Path, directory_fd: int, lock_fd: int) -> None:
        """Own both descriptors; use claim to get one."""
        self.path = path
        self.directory_fd = directory_fd
        self._lock_fd = lock_fd
        self._inner_fd = -1
        self._sockets: dict[str, _Place] = {}
        self._grpc: _Place | None = None
        self._unpublished = f"{_UNPUBLISHED}{secrets.token_hex(4)}"

    @classmethod
    def claim(cls, path: str | Path, *, mode: int = 0o755) -> RuntimeDir:
        """Lock the directory, and make it if it is missing.

        Args:
            mode: of a new directory; an existing one is left as it is.
        Raises:
            DirectoryBusy: a daemon is running there.
            ListenError: it cannot be used.
        """
        path = Path(os.path.abspath(path))
        for name in (HANDOFF_NAME, f"{INNER_NAME}/{GRPC_NAME}"):
            _check_length(path / name)
        directory_fd = -1
        try:
            _make_directory(path, mode)
            directory_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            runtime = cls(path, directory_fd, _lock(path, directory_fd))
        except OSError as error:
            close_quietly(directory_fd)
            raise ListenError(f"runtime directory {path}: {error.strerror}") from error
        except BaseException:
            close_quietly(directory_fd)
            raise
        try:
            runtime._make_inner()
        except OSError as error:
            runtime.close()
            raise ListenError(f"{path / INNER_NAME}: {error.strerror}") from error
        except BaseException:
            runtime.close()
            raise
        return runtime

    @property
    def inner_path(self) -> Path:
        """Where grpc listens once it is published: only this uid reaches it."""
        return self.path / INNER_NAME / GRPC_NAME

    @property
    def unpublished_path(self) -> Path:
        """Where grpc shall bind, before `publish`: a name that no other daemon ever has.

        grpc removes the path that it has bound when it ends, whoever's it is by then.
        """
        return self.path / INNER_NAME / self._unpublished

    @property
    def dial_path(self) -> str:
        """The published socket of this daemon, whatever inner_path leads to by now."""
        through = f"/proc/self/fd/{self._inner_fd}"
        return f"{through}/{GRPC_NAME}" if os.path.isdir(through) else os.fspath(self.inner_path)

    def publish(self) -> None:
        """Give what grpc has bound its name; raises ListenError."""
        try:
            os.rename(self._unpublished, GRPC_NAME, src_dir_fd=self._inner_fd, dst_dir_fd=self._inner_fd)
            self._grpc = _place(GRPC_NAME, self._inner_fd)
        except OSError as error:
            raise ListenError(f"{self.inner_path}: {error.strerror}") from error

    def why_unbound(self) -> str:
        """What keeps anybody from binding a socket where grpc could not, which does not say."""
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.bind(os.fspath(self.unpublished_path))
            except OSError as error:
                return f"{self.inner_path.parent}: {error.strerror}"
        _remove_socket(self._unpublished, self._inner_fd)
        return f"{self.inner_path.parent}: gRPC cannot listen there; GRPC_VERBOSITY=debug shows why"

    def why_lost(self) -> str:
        """Why no client can find this daemon any more, in words; "" if one can."""
        try:
            if not os.path.samestat(os.stat(self.path), os.fstat(self.directory_fd)):
                return f"{self.path} is another directory now"
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        wanted = {LOCK_NAME: _id(os.fstat(self._lock_fd)), **self._sockets}
        for name, place in wanted.items():
            if _place_or_none(name, self.directory_fd) != place:
                return f"{self.path / name} was removed"
        if self._grpc is not None and _place_or_none(GRPC_NAME, self._inner_fd) != self._grpc:
            return f"{self.inner_path} was removed"
        return ""

    def _make_inner(self) -> None:
        inner = self.path / INNER_NAME
        with contextlib.suppress(FileExistsError):
            os.mkdir(INNER_NAME, 0o700, dir_fd=self.directory_fd)
        status = os.lstat(INNER_NAME, dir_fd=self.directory_fd)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ListenError(f"{inner}: wanted a directory of uid {os.geteuid()}")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.chmod(INNER_NAME, 0o700, dir_fd=self.directory_fd)
        self._inner_fd = os.open(INNER_NAME, flags, dir_fd=self.directory_fd)
        self._remove_stale_inner()

    def _remove_stale_inner(self) -> None:
        """Remove what daemons and clients that were killed have left here."""
        _remove_stale(self.inner_path, GRPC_NAME, self._inner_fd)
        self._remove_made(_UNPUBLISHED)
        self._remove_made(calls.NAME_PREFIX)

    def _remove_made(self, prefix: str) -> None:
        """Remove the sockets in the inner directory that have this prefix and 8 hexadecimal digits."""
        name_of = re.compile(f"{prefix}[0-9a-f]{{8}}")
        with contextlib.suppress(OSError):
            for name in filter(name_of.fullmatch, os.listdir(self._inner_fd)):
                _remove_socket(name, self._inner_fd)

    def listen(self, name: str, *, mode: int, gid: int = -1) -> socket.socket:
        """Make a listening socket here; the caller owns it, close removes its path.

        Args:
            name: RELAY_NAME or HANDOFF_NAME.
            mode, gid: of the path; gid -1 = this process's.
        Raises:
            ListenError: something else is in the way, or the group may not be set.
        """
        path = self.path / name
        kind = next(kind for kind, known in KINDS.items() if known == name)
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            _remove_stale(path, name, self.directory_fd)
            sock.bind(os.fspath(path))
            self._sockets[name] = _place(name, self.directory_fd)
            # Nobody can connect before listen, so nobody ever gets past a mode
            # or a group that is not the final one.
            os.chown(path, -1, gid)
            path.chmod(mode)
            if name == RELAY_NAME:
                refuse_fds(sock)
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise ListenError(f"{path}: {error.strerror}") from error
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Remove what was made here and give the directory free. The directory stays."""
        if self._lock_fd < 0:
            return
        for name, place in self._sockets.items():
            _remove_own(name, place, self.directory_fd)
        if self._inner_fd >= 0:
            self._remove_made(calls.NAME_PREFIX)
            if self._grpc is not None:
                _remove_own(GRPC_NAME, self._grpc, self._inner_fd)
            close_quietly(self._inner_fd)
            self._inner_fd = -1
        with contextlib.suppress(OSError):
            os.rmdir(INNER_NAME, dir_fd=self.directory_fd)
        # Removed while locked: who waits for this lock sees that the path is
        # another file by then, or none.
        with contextlib.suppress(OSError):
            if _place(LOCK_NAME, self.directory_fd) == _id(os.fstat(self._lock_fd)):
                os.unlink(LOCK_NAME, dir_fd=self.directory_fd)
        close_quietly(self._lock_fd)
        close_quietly(self.directory_fd)
        self._lock_fd = self.directory_fd = -1


def _check_length(path: Path) -> None:
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        raise ListenError(
            f"{path}: {size} bytes long, a socket's path may have {PATH_BYTES_MAX}; choose a shorter one"
        )


def _make_directory(path: Path, mode: int) -> None:
    """Make the directory, or check that only root and we can change what is in it."""
    try:
        path.mkdir(mode)
        path.chmod(mode)  # mkdir heeds the umask
    except FileExistsError:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise ListenError(f"runtime directory {path}: is no directory") from None
        if status.st_uid not in (0, os.geteuid()):
            raise ListenError(
                f"runtime directory {path}: belongs to uid {status.st_uid}, who could replace its sockets;"
                f" wanted uid {os.geteuid()} or 0"
            ) from None
        # A group that may write root's directory could take clients of every user away.
        bits = stat.S_IWOTH | (stat.S_IWGRP if os.geteuid() == 0 else 0)
        if status.st_mode & bits:
            raise ListenError(
                f"runtime directory {path}: mode {stat.S_IMODE(status.st_mode):04o} lets other users replace"
                " its sockets; remove that right (chmod go-w)"
            ) from None


def _lock(directory: Path, directory_fd: int) -> int:
    """A locked descriptor of the lock file, with our pid in it; the directory is locked, too.

    The file says who is there. The directory itself is locked since somebody may remove the file.

    Raises:
        DirectoryBusy: somebody else holds the lock.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(LOCK_NAME, flags, 0o644, dir_fd=directory_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _place_or_none(LOCK_NAME, directory_fd) == _id(os.fstat(fd)):
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
        # Its last owner removed it between our open and our lock.
        os.close(fd)


def _lock_directory(fd: int) -> None:
    """Lock the directory itself; raises BlockingIOError where a daemon has it.

    A cleaner that looks through it has it for a moment. File systems without locks of
    directories are left alone.
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


def _id(status: os.stat_result) -> _Place:
    return status.st_dev, status.st_ino


def _place(name: str, directory_fd: int) -> _Place:
    return _id(os.lstat(name, dir_fd=directory_fd))


def _place_or_none(name: str, directory_fd: int) -> _Place | None:
    try:
        return _place(name, directory_fd)
    except OSError:
        return None


def _remove_stale(path: Path, name: str, directory_fd: int) -> None:
    """Remove a dead daemon's socket. Assumes that we hold the directory's lock."""
    try:
        status = os.lstat(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ListenError(f"{path}: exists and is no socket; remove it")
    os.unlink(name, dir_fd=directory_fd)


def _remove_socket(name: str, directory_fd: int) -> None:
    """Remove it if it is a socket."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(name, dir_fd=directory_fd).st_mode):
            os.unlink(name, dir_fd=directory_fd)


def _remove_own(name: str, place: _Place, directory_fd: int) -> None:
    # A number alone is no proof: it may be another file's by now.
    if _place_or_none(name, directory_fd) == place:
        _remove_socket(name, directory_fd)
