"""The runtime directory: it belongs to one daemon while that lives, even if its name changes."""

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
"""Prefix of a name that has 8 digits after it, which makes it as long as GRPC_NAME: a path with either
fits into a socket's address."""

KINDS = {socket.SOCK_STREAM: RELAY_NAME, socket.SOCK_SEQPACKET: HANDOFF_NAME}

BACKLOG = 4096
"""Connections that wait to be accepted; the kernel may hold fewer (somaxconn)."""

_DIRECTORY_TRIES, _DIRECTORY_PAUSE_S = 5, 0.05

_FileId = tuple[int, int]
"""Device and inode."""


class ListenError(Exception):
    """The daemon cannot listen where it should; the text says why."""


class DirectoryBusy(ListenError):
    """Another daemon holds the runtime directory.

    Args:
        pid: the one in the lock file; 0 if there is none.
    """

    def __init__(self, path: Path, pid: int) -> None:
        """Name the directory and its owner."""
        who = f"pid {pid}" if pid else "another process"
        super().__init__(f"runtime directory {path}: a daemon is running there already ({who})")
        self.pid = pid


class RuntimeDir:
    """A directory that belongs to this daemon while it lives.

    Claiming it is the first thing a daemon does: grpc silently replaces an existing socket
    of somebody else, and removes the path when it ends.

    The directory stays open and locked, and everything later happens through that descriptor.
    Somebody may remove the directory, or replace it with another one that another daemon
    then uses. systemd-tmpfiles and other cleaners leave a locked directory alone.

    Source: tmpfiles.d(5), on BSD file locks
    """

    def __init__(self, path: Path, directory_fd: int, lock_fd: int) -> None:
        """Own both descriptors; call `claim` to get a RuntimeDir."""
        self.path = path
        self.directory_fd = directory_fd
        self._lock_fd = lock_fd
        self._inner_fd = -1
        self._sockets: dict[str, _FileId] = {}
        self._grpc: _FileId | None = None
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
        """The path of grpc's socket after `publish`. Only this uid reaches it."""
        return self.path / INNER_NAME / GRPC_NAME

    @property
    def unpublished_path(self) -> Path:
        """The path that grpc binds before `publish`: a name that no other daemon ever has.

        When grpc ends it removes the path that it has bound, even if it has another owner by then.
        """
        return self.path / INNER_NAME / self._unpublished

    @property
    def dial_path(self) -> str:
        """A path to the published socket of this daemon, even if inner_path leads elsewhere by now."""
        through = f"/proc/self/fd/{self._inner_fd}"
        return f"{through}/{GRPC_NAME}" if os.path.isdir(through) else os.fspath(self.inner_path)

    def publish(self) -> None:
        """Give the socket that grpc has bound its public name; raises ListenError."""
        try:
            os.rename(self._unpublished, GRPC_NAME, src_dir_fd=self._inner_fd, dst_dir_fd=self._inner_fd)
            self._grpc = _file_id(GRPC_NAME, self._inner_fd)
        except OSError as error:
            raise ListenError(f"{self.inner_path}: {error.strerror}") from error

    def why_unbound(self) -> str:
        """Return why no socket can be bound where grpc failed, since grpc does not report it."""
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.bind(os.fspath(self.unpublished_path))
            except OSError as error:
                return f"{self.inner_path.parent}: {error.strerror}"
        _remove_socket(self._unpublished, self._inner_fd)
        return f"{self.inner_path.parent}: gRPC cannot listen there; GRPC_VERBOSITY=debug shows why"

    def why_lost(self) -> str:
        """Return why no client can find this daemon any more, in words; "" if clients can."""
        try:
            if not os.path.samestat(os.stat(self.path), os.fstat(self.directory_fd)):
                return f"{self.path} is another directory now"
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        wanted = {LOCK_NAME: _id_of(os.fstat(self._lock_fd)), **self._sockets}
        for name, file_id in wanted.items():
            if _file_id_or_none(name, self.directory_fd) != file_id:
                return f"{self.path / name} was removed"
        if self._grpc is not None and _file_id_or_none(GRPC_NAME, self._inner_fd) != self._grpc:
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
        """Remove the sockets of daemons and clients that were killed."""
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
            self._sockets[name] = _file_id(name, self.directory_fd)
            # Nobody can connect before listen, so the final mode and group apply to
            # every client.
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
        """Remove the sockets made here and unlock the directory. The directory stays."""
        if self._lock_fd < 0:
            return
        for name, file_id in self._sockets.items():
            _remove_own(name, file_id, self.directory_fd)
        if self._inner_fd >= 0:
            self._remove_made(calls.NAME_PREFIX)
            if self._grpc is not None:
                _remove_own(GRPC_NAME, self._grpc, self._inner_fd)
            close_quietly(self._inner_fd)
            self._inner_fd = -1
        with contextlib.suppress(OSError):
            os.rmdir(INNER_NAME, dir_fd=self.directory_fd)
        # Removed while locked: a process that waits for this lock then sees that the path is
        # another file, or none.
        with contextlib.suppress(OSError):
            if _file_id(LOCK_NAME, self.directory_fd) == _id_of(os.fstat(self._lock_fd)):
                os.unlink(LOCK_NAME, dir_fd=self.directory_fd)
        close_quietly(self._lock_fd)
        close_quietly(self.directory_fd)
        self._lock_fd = self.directory_fd = -1


def _check_length(path: Path) -> None:
    size = len(os.fsencode(path))
    if size > PATH_BYTES_MAX:
        raise ListenError(
            f"{path}: {size} bytes long, but a socket's path may have at most {PATH_BYTES_MAX};"
            " choose a shorter directory"
        )


def _make_directory(path: Path, mode: int) -> None:
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


def _lock(directory: Path, directory_fd: int) -> int:
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
            if _file_id_or_none(LOCK_NAME, directory_fd) == _id_of(os.fstat(fd)):
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


def _id_of(status: os.stat_result) -> _FileId:
    return status.st_dev, status.st_ino


def _file_id(name: str, directory_fd: int) -> _FileId:
    return _id_of(os.lstat(name, dir_fd=directory_fd))


def _file_id_or_none(name: str, directory_fd: int) -> _FileId | None:
    try:
        return _file_id(name, directory_fd)
    except OSError:
        return None


def _remove_stale(path: Path, name: str, directory_fd: int) -> None:
    """Remove a dead daemon's socket. Assumes that this daemon holds the directory's lock."""
    try:
        status = os.lstat(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ListenError(f"{path}: exists and is no socket; remove it")
    os.unlink(name, dir_fd=directory_fd)


def _remove_socket(name: str, directory_fd: int) -> None:
    """Remove a name if it is a socket."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(name, dir_fd=directory_fd).st_mode):
            os.unlink(name, dir_fd=directory_fd)


def _remove_own(name: str, file_id: _FileId, directory_fd: int) -> None:
    # The inode number alone is no proof: it may belong to another kind of file by now.
    if _file_id_or_none(name, directory_fd) == file_id:
        _remove_socket(name, directory_fd)
