"""Finds the sockets of a daemon, and checks whether a daemon answers there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from ktask.link import trust
from ktask.link.trust import anchored

SOCKET_NAME = "ktaskd.sock"
HANDOFF_NAME = "handoff.sock"
VARIABLE = "KTASKD_SOCKET"

_SUN_PATH_MAX = 107
"""Bytes of a socket's path. Source: unix(7)."""
_PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The two sockets of one daemon, in one directory."""

    socket: str
    handoff: str

    def __str__(self) -> str:
        """Path of the gRPC socket."""
        return self.socket


def endpoint_of(target: str | bytes | os.PathLike[str]) -> Endpoint:
    """The endpoint that a directory, or the path of the gRPC socket, stands for."""
    path = os.path.abspath(os.fsdecode(target))
    if os.path.isdir(path):
        return Endpoint(os.path.join(path, SOCKET_NAME), os.path.join(path, HANDOFF_NAME))
    return Endpoint(path, os.path.join(os.path.dirname(path), HANDOFF_NAME))


def named(target: str | bytes | os.PathLike[str] | None, environ: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that the caller names, or else the environment; None if neither does."""
    if target is not None:
        if not os.fspath(target):
            raise ValueError("target: got an empty path, wanted a directory or a socket")
        return endpoint_of(target)
    variable = environ.get(VARIABLE, "")
    return endpoint_of(variable) if variable else None


def usual(environ: Mapping[str, str]) -> list[Endpoint]:
    """Endpoints to try when none was named: the user's daemon, then the system's."""
    directories = [trust.SYSTEM_DIR]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        directories.insert(0, os.path.join(runtime, "ktaskd"))
    return [Endpoint(os.path.join(d, SOCKET_NAME), os.path.join(d, HANDOFF_NAME)) for d in directories]


def is_system(endpoint: Endpoint) -> bool:
    """Whether this is the system's endpoint and its directory exists: a daemon is or was there."""
    directory = os.path.dirname(endpoint.socket)
    return directory == trust.SYSTEM_DIR and os.path.lexists(directory)


def with_next_step(endpoint: Endpoint, why: str) -> str:
    """Why the system's daemon cannot be used, and what the user can do about it."""
    directory = os.path.dirname(endpoint.socket)
    if not os.access(directory, os.X_OK):
        step = f'only its owner may enter "{directory}"; ask the administrator for access'
    elif not os.path.lexists(endpoint.socket):
        step = "the system's daemon is not running; an administrator starts it: systemctl start ktaskd.socket"
    elif not os.access(endpoint.socket, os.R_OK | os.W_OK):
        step = (
            f"you may not use the system's daemon; an administrator lets you in: {_way_in(endpoint.socket)}"
        )
    else:
        step = "look at the system's daemon: systemctl status ktaskd.socket ktaskd"
    return f"{why}; {step}"


def _way_in(path: str) -> str:
    """How a user gets access to a socket: membership of its group, if the group has access."""
    import grp
    import pwd

    try:
        found = os.stat(path)
        group, user = grp.getgrgid(found.st_gid).gr_name, pwd.getpwuid(os.geteuid()).pw_name
    except (OSError, KeyError):
        return f'see `ls -l "{path}"`'
    if found.st_mode & 0o060 != 0o060 or not found.st_gid:
        return f'the mode of "{path}" lets only its owner in'
    return f"adduser {user} {group}; then log in again"


def why_silent(endpoint: Endpoint) -> str:
    """Why no daemon answers at an endpoint; "" if a process accepts connections.

    Raises:
        DaemonNotTrusted: another user listens there, or could.
    """
    try:
        open_unix(endpoint.socket, socket.SOCK_STREAM, _PROBE_TIMEOUT_S).close()
    except BlockingIOError:
        return ""  # A process listens, and its backlog is full.
    except OSError as error:
        return _explain(error)
    return ""


def open_unix(path: str, kind: socket.SocketKind, timeout_s: float) -> socket.socket:
    """A socket of `kind` connected to the daemon that listens at `path`.

    Raises:
        OSError: no process listens there.
        DaemonNotTrusted: the directory or the listening process is another user's.
    """
    with anchored(os.path.dirname(path)) as anchor:
        connection = socket.socket(socket.AF_UNIX, kind)
        try:
            connection.settimeout(timeout_s)
            connection.connect(anchor.path(os.path.basename(path)))
            anchor.check_peer(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """A path that fits into a socket address, valid inside the context."""
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        yield path
        return
    fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        os.close(fd)


def grpc_target(path: str) -> str:
    """The name by which gRPC dials a socket, whose path may have any bytes."""
    return "unix:" + quote(os.fsencode(path))


def is_private(directory: str) -> bool:
    """Whether only this user can create files there: no link, owned, and not writable for others."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _explain(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "no process listens there any more"
    if error.errno == errno.EPROTOTYPE:
        return "not a daemon's gRPC socket"
    return error.strerror or str(error) or type(error).__name__
