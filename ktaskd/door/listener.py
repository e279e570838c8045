"""The runtime directory and the two public sockets in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from ktask.v1 import calls

from ktaskd.host.unixsock import PATH_BYTES_MAX, close_quietly, refuse_fds

RELAY_NAME = "ktaskd.sock"
HANDOFF_NAME = "handoff.sock"
LOCK_NAME = "ktaskd.lock"
INNER_NAME = calls.DIRECTORY
GRPC_NAME = "grpc.sock"

BACKLOG = 4096
"""Connections that wait to be accepted; the kernel may hold fewer (somaxconn)."""

LISTEN_FDS_START = 3
LISTEN_FDS_MAX = 64
"""Source of the first: sd_listen_fds(3)."""

_KINDS = {socket.SOCK_STREAM: RELAY_NAME, socket.SOCK_SEQPACKET: HANDOFF_NAME}

_Place = tuple[int, int]


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
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        """Own the lock; use claim to get one."""
        self.path = path
        self._lock_fd = lock_fd
        self._sockets: dict[Path, _Place] = {}

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
        try:
            _make_directory(path, mode)
            runtime = cls(path, _lock(path))
        except OSError as error:
            raise ListenError(f"runtime directory {path}: {error.strerror}") from error
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
        """Where grpc shall listen: only this uid reaches it."""
        return self.path / INNER_NAME / GRPC_NAME

    def _make_inner(self) -> None:
        inner = self.path / INNER_NAME
        with contextlib.suppress(FileExistsError):
            inner.mkdir(0o700)
        status = inner.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ListenError(f"{inner}: wanted a directory of uid {os.geteuid()}")
        inner.chmod(0o700)
        _remove_stale(self.inner_path)
        self._remove_calls()

    def _remove_calls(self) -> None:
        """Remove what clients that were killed have left, which listened for their workers."""
        for path in self.inner_path.parent.glob(f"{calls.NAME_PREFIX}????????"):
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()

    def listen(self, name: str, *, mode: int, gid: int = -1) -> socket.socket:
        """Make a listening socket here; the caller owns it, close removes its path.

        Args:
            name: RELAY_NAME or HANDOFF_NAME.
            mode, gid: of the path; gid -1 = this process's.
        Raises:
            ListenError: something else is in the way, or the group may not be set.
        """
        path = self.path / name
        kind = next(kind for kind, known in _KINDS.items() if known == name)
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            _remove_stale(path)
            sock.bind(os.fspath(path))
            status = path.lstat()
            self._sockets[path] = (status.st_dev, status.st_ino)
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
        for path, place in self._sockets.items():
            _remove_own(path, place)
        self._remove_calls()
        with contextlib.suppress(OSError):
            self.inner_path.unlink()
        with contextlib.suppress(OSError):
            self.inner_path.parent.rmdir()
        # Removed while locked: who waits for this lock sees that the path is
        # another file by then, or none.
        with contextlib.suppress(OSError):
            (self.path / LOCK_NAME).unlink()
        close_quietly(self._lock_fd)
        self._lock_fd = -1


@dataclass(frozen=True, slots=True)
class Listeners:
    """The two public listening sockets; the caller owns them.

    Args:
        adopted: the names of those that were passed by the service manager.
    """

    relay: socket.socket
    handoff: socket.socket
    adopted: frozenset[str]

    def reached_by_others(self) -> bool:
        """Whether the mode of either lets another user connect than the one we are."""
        return any(_is_open_to_others(sock) for sock in (self.relay, self.handoff))

    def close(self) -> None:
        """Close both."""
        self.relay.close()
        self.handoff.close()


def _is_open_to_others(sock: socket.socket) -> bool:
    try:
        status = os.stat(sock.getsockname())
    except (OSError, ValueError):  # of no path, or of one that cannot be seen: whoever knows
        return True
    return status.st_uid != os.geteuid() or bool(status.st_mode & 0o077)


def open_listeners(
    runtime: RuntimeDir, *, mode: int, gid: int = -1, environ: MutableMapping[str, str] = os.environ
) -> Listeners:
    """The sockets that the service manager passed, or new ones in `runtime`.

    Args:
        mode, gid: of new ones; adopted ones are left as they are.
        environ: LISTEN_* is read and taken out of it.
    Raises:
        ListenError: what was passed is not what is wanted, or one cannot be made.
    """
    found = adopt(environ)
    adopted = frozenset(found)
    try:
        for name in (RELAY_NAME, HANDOFF_NAME):
            if name not in found:
                found[name] = runtime.listen(name, mode=mode, gid=gid)
    except BaseException:
        for sock in found.values():
            sock.close()
        raise
    return Listeners(found[RELAY_NAME], found[HANDOFF_NAME], adopted)


def adopt(environ: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """Listening sockets that were passed to this process, by RELAY_NAME and HANDOFF_NAME.

    They are told apart by their type. The protocol's variables are taken out
    of `environ`, so that no child believes that they were meant for it.

    Raises:
        ListenError: something else was passed; all that was passed is closed.
    Source: sd_listen_fds(3).
    """
    pid, count, names = (environ.pop(f"LISTEN_{part}", "") for part in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count:
        return {}
    if not count.isdecimal() or int(count) > LISTEN_FDS_MAX:
        raise ListenError(f"LISTEN_FDS={count}: wanted a number up to {LISTEN_FDS_MAX}")
    fds = range(LISTEN_FDS_START, LISTEN_FDS_START + int(count))
    labels = dict(zip(fds, names.split(":"), strict=False))
    found: dict[str, socket.socket] = {}
    try:
        for fd in fds:
            os.set_inheritable(fd, False)
            what = f'descriptor {fd} ("{labels.get(fd, "")}") of LISTEN_FDS'
            name, sock = _adopt_one(fd, what)
            if name in found:
                sock.close()
                raise ListenError(f"{what}: a second socket for {name}")
            found[name] = sock
    except (OSError, ListenError) as error:
        for sock in found.values():
            sock.close()
        for fd in fds:
            close_quietly(fd)
        raise ListenError(f"adopting sockets: {error}") from error
    return found


def _adopt_one(fd: int, what: str) -> tuple[str, socket.socket]:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        raise ListenError(f"{what}: is no socket")
    sock = socket.socket(fileno=fd)
    name = _KINDS.get(sock.type) if sock.family == socket.AF_UNIX else None
    if name is None or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ListenError(f"{what}: wanted a listening unix socket, stream or seqpacket")
    sock.setblocking(False)
    return name, sock


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
        if status.st_mode & stat.S_IWOTH:
            raise ListenError(
                f"runtime directory {path}: mode {stat.S_IMODE(status.st_mode):04o} lets everybody replace"
                " its sockets"
            ) from None


def _lock(directory: Path) -> int:
    """A locked descriptor of the lock file, with our pid in it.

    Raises:
        DirectoryBusy: somebody else holds the lock.
    """
    path = directory / LOCK_NAME
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, fd):
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


def _is_still(path: Path, fd: int) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _remove_stale(path: Path) -> None:
    """Remove a dead daemon's socket. Assumes that we hold the directory's lock."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ListenError(f"{path}: exists and is no socket; remove it")
    path.unlink()


def _remove_own(path: Path, place: _Place) -> None:
    with contextlib.suppress(OSError):
        status = path.lstat()
        # A number alone is no proof: it may be another file's by now.
        if (status.st_dev, status.st_ino) == place and stat.S_ISSOCK(status.st_mode):
            path.unlink()
