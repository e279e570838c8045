"""The runtime directory: it belongs to one daemon while that lives, even if its name changes."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import stat
from pathlib import Path

from ktask.v1 import calls

from ktaskd.door.sockets.claiming import LOCK_NAME as LOCK_NAME
from ktaskd.door.sockets.claiming import check_length, lock, make_directory
from ktaskd.door.sockets.errors import DirectoryBusy as DirectoryBusy
from ktaskd.door.sockets.errors import ListenError as ListenError
from ktaskd.door.sockets.names import (
    FileId,
    file_id,
    file_id_or_none,
    id_of,
    remove_own,
    remove_socket,
    remove_stale,
)
from ktaskd.host.sockets.unixsock import close_quietly, refuse_fds

RELAY_NAME = "ktaskd.sock"
HANDOFF_NAME = "handoff.sock"
INNER_NAME = calls.DIRECTORY
GRPC_NAME = "grpc.sock"

_UNPUBLISHED = "g"
"""Prefix of a name that has 8 digits after it, which makes it as long as GRPC_NAME: a path with either
fits into a socket's address."""

KINDS = {socket.SOCK_STREAM: RELAY_NAME, socket.SOCK_SEQPACKET: HANDOFF_NAME}

BACKLOG = 4096
"""Connections that wait to be accepted; the kernel may hold fewer (somaxconn)."""


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
        self._sockets: dict[str, FileId] = {}
        self._grpc: FileId | None = None
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
            check_length(path / name)
        directory_fd = -1
        try:
            make_directory(path, mode)
            directory_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            runtime = cls(path, directory_fd, lock(path, directory_fd))
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
            self._grpc = file_id(GRPC_NAME, self._inner_fd)
        except OSError as error:
            raise ListenError(f"{self.inner_path}: {error.strerror}") from error

    def why_unbound(self) -> str:
        """Return why no socket can be bound where grpc failed, since grpc does not report it."""
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.bind(os.fspath(self.unpublished_path))
            except OSError as error:
                return f"{self.inner_path.parent}: {error.strerror}"
        remove_socket(self._unpublished, self._inner_fd)
        return f"{self.inner_path.parent}: gRPC cannot listen there; GRPC_VERBOSITY=debug shows why"

    def why_lost(self) -> str:
        """Return why no client can find this daemon any more, in words; "" if clients can."""
        try:
            if not os.path.samestat(os.stat(self.path), os.fstat(self.directory_fd)):
                return f"{self.path} is another directory now"
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        wanted = {LOCK_NAME: id_of(os.fstat(self._lock_fd)), **self._sockets}
        for name, known in wanted.items():
            if file_id_or_none(name, self.directory_fd) != known:
                return f"{self.path / name} was removed"
        if self._grpc is not None and file_id_or_none(GRPC_NAME, self._inner_fd) != self._grpc:
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
        remove_stale(self.inner_path, GRPC_NAME, self._inner_fd)
        self._remove_made(_UNPUBLISHED)
        self._remove_made(calls.NAME_PREFIX)

    def _remove_made(self, prefix: str) -> None:
        """Remove the sockets in the inner directory that have this prefix and 8 hexadecimal digits."""
        name_of = re.compile(f"{prefix}[0-9a-f]{{8}}")
        with contextlib.suppress(OSError):
            for name in filter(name_of.fullmatch, os.listdir(self._inner_fd)):
                remove_socket(name, self._inner_fd)

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
            remove_stale(path, name, self.directory_fd)
            sock.bind(os.fspath(path))
            self._sockets[name] = file_id(name, self.directory_fd)
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
        for name, made in self._sockets.items():
            remove_own(name, made, self.directory_fd)
        if self._inner_fd >= 0:
            self._remove_made(calls.NAME_PREFIX)
            if self._grpc is not None:
                remove_own(GRPC_NAME, self._grpc, self._inner_fd)
            close_quietly(self._inner_fd)
            self._inner_fd = -1
        with contextlib.suppress(OSError):
            os.rmdir(INNER_NAME, dir_fd=self.directory_fd)
        # Removed while locked: a process that waits for this lock then sees that the path is
        # another file, or none.
        with contextlib.suppress(OSError):
            if file_id(LOCK_NAME, self.directory_fd) == id_of(os.fstat(self._lock_fd)):
                os.unlink(LOCK_NAME, dir_fd=self.directory_fd)
        close_quietly(self._lock_fd)
        close_quietly(self.directory_fd)
        self._lock_fd = self.directory_fd = -1
