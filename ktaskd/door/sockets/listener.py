"""The two public sockets: made in the runtime directory, or passed by the service manager."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from ktaskd.door.sockets.rundir import HANDOFF_NAME, KINDS, RELAY_NAME
from ktaskd.door.sockets.rundir import DirectoryBusy as DirectoryBusy
from ktaskd.door.sockets.rundir import ListenError as ListenError
from ktaskd.door.sockets.rundir import RuntimeDir as RuntimeDir
from ktaskd.host.sockets.unixsock import close_quietly

LISTEN_FDS_START = 3
LISTEN_FDS_MAX = 64
"""Source of the first: sd_listen_fds(3)."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The two public listening sockets; the caller owns them.

    Args:
        adopted: names of the sockets that the service manager passed.
    """

    relay: socket.socket
    handoff: socket.socket
    adopted: frozenset[str]

    def reached_by_others(self) -> bool:
        """Whether the mode of either socket lets users other than the daemon's connect."""
        return any(_is_open_to_others(sock) for sock in (self.relay, self.handoff))

    def close(self) -> None:
        """Close both."""
        self.relay.close()
        self.handoff.close()


def would_be_reached_by_others(directory: Path | None, mode: int) -> bool:
    """Like `Listeners.reached_by_others`, for a daemon that need not run.

    Args:
        directory: its runtime directory, whose sockets count if there are any; None = not known.
        mode: of the sockets that it would make.
    """
    paths = [directory / name for name in (RELAY_NAME, HANDOFF_NAME)] if directory else []
    there = [path for path in paths if os.path.lexists(path)]
    return any(map(_is_path_open_to_others, there)) if there else bool(mode & 0o077)


def _is_open_to_others(sock: socket.socket) -> bool:
    return _is_path_open_to_others(sock.getsockname())


def _is_path_open_to_others(path: str | Path) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # no path, or one that cannot be examined: assume the worst
        return True
    return status.st_uid != os.geteuid() or bool(status.st_mode & 0o077)


def open_listeners(
    runtime: RuntimeDir, *, mode: int, gid: int = -1, environ: MutableMapping[str, str] = os.environ
) -> Listeners:
    """Return the sockets that the service manager passed, or new ones in `runtime`.

    Args:
        mode, gid: of new sockets; adopted ones are left as they are.
        environ: LISTEN_* is read and removed.
    Raises:
        ListenError: the passed sockets are wrong, or one cannot be made.
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
    """Return the listening sockets that were passed to this process, by RELAY_NAME and HANDOFF_NAME.

    Their type tells them apart. The protocol's variables are removed from
    `environ`, so that no child takes them for its own.

    Raises:
        ListenError: something else was passed; all that was passed is closed.
    Source: sd_listen_fds(3).
    """
    pid, count, names = (environ.pop(f"LISTEN_{part}", "") for part in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count:
        return {}
    if not count.isdecimal() or int(count) > LISTEN_FDS_MAX:
        raise ListenError(f"LISTEN_FDS={count}: wanted a number of at most {LISTEN_FDS_MAX}")
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
                raise ListenError(f"{what}: is a second socket for {name}; pass one of each type")
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
    name = KINDS.get(sock.type) if sock.family == socket.AF_UNIX else None
    if name is None or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ListenError(f"{what}: wanted a listening unix socket, stream or seqpacket")
    sock.setblocking(False)
    return name, sock
