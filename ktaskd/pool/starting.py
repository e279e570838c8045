"""Start a pool host: as a child of the daemon, or through a unit of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ktaskd.host.memory import erasing
from ktaskd.host.processes import process
from ktaskd.host.sockets.unixsock import close_quietly, read_peer_credentials

Envelope = tuple[dict[str, Any], list[int]]
"""A message to a pool host and its descriptors, which stay the sender's."""


class StartedHost(Protocol):
    """A pool host that was requested.

    Attributes:
        control: our end of its socket, non-blocking; the caller closes it.
        pid, pidfd: 0 and -1 until they are known; the caller closes the pidfd.
        greeting: the first messages to it.
    """

    control: socket.socket
    pid: int
    pidfd: int
    greeting: list[Envelope]

    def on_ready(self, message: dict[str, Any], fds: list[int]) -> None:
        """Handle "ready", and own `fds`. From now on pid and pidfd are known."""

    def reap(self) -> int | None:
        """Its exit status after its death, as in subprocess; None if it is not our child."""

    def kill(self) -> None:
        """Send SIGKILL, if its pid is known."""


class Starter(Protocol):
    """Starts pool hosts. Never blocks for long."""

    waiting: str
    """Why there may be a delay between `start` and the host's "ready", in words; "" = there is none."""

    def start(self, name: str) -> StartedHost:
        """Start one; raises OSError."""


class _Child:
    """A pool host that is our child."""

    def __init__(self, control: socket.socket, popen: subprocess.Popen[bytes]) -> None:
        """Own both."""
        self.control = control
        self.pid = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)
        self.greeting: list[Envelope] = []
        self._popen = popen

    def on_ready(self, message: dict[str, Any], fds: list[int]) -> None:
        """Close `fds`: pid and pidfd are known already."""
        for fd in fds:
            os.close(fd)

    def reap(self) -> int | None:
        """Wait for it; its exit status."""
        return self._popen.wait()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._popen.kill()


class Children:
    """Starts pool hosts as children of the daemon."""

    waiting = ""

    def __init__(self, *, one_user: bool = False) -> None:
        """Start nothing yet.

        Args:
            one_user: whether only the daemon's own user has jobs here.
        """
        self._one_user = one_user

    def start(self, name: str) -> _Child:
        """Start one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # In a daemon for several users, who must not see each other's data.
        flags = [] if process.read_dumpable() else ["undumpable"]
        try:
            with theirs:
                popen = subprocess.Popen(
                    [*python("ktaskd.pool.host"), str(theirs.fileno()), name, *flags],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=environment(erase=bool(flags) and not self._one_user),
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        return _Child(ours, popen)


def python(module: str) -> list[str]:
    """The command that runs a module of ours.

    This is as safe as -I, since `environment` passes no variables to the interpreter except those
    of `erasing`, which -I would ignore.
    """
    return [sys.executable, "-P", "-s", "-m", module]


def environment(*also: str, erase: bool) -> dict[str, str]:
    """The environment of a pool host: without sockets and secrets of ours.

    Args:
        also: names of further variables that it gets.
        erase: whether it has to erase freed memory.
    """
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "JOURNAL_STREAM", "KTASKD_FAULTS", *also)
    own = {name: os.environ[name] for name in kept if name in os.environ}
    return own | erasing.ENVIRONMENT if erase else own


class _Remote:
    """A pool host that another process forks for us, and reaps."""

    def __init__(
        self, control: socket.socket, greeting: list[Envelope], on_cgroup_fd: Callable[[int], None]
    ) -> None:
        """Own the socket."""
        self.control = control
        self.pid = 0
        self.pidfd = -1
        self.greeting = greeting
        self._on_cgroup_fd = on_cgroup_fd

    def on_ready(self, message: dict[str, Any], fds: list[int]) -> None:
        """Learn its pid, and pass on the cgroup.procs of its group."""
        if self.pidfd >= 0 or not fds:
            for fd in fds:
                os.close(fd)
            return
        self.pid, self.pidfd = int(message["pid"]), fds[0]
        if len(fds) > 1:
            self._on_cgroup_fd(fds[1])

    def reap(self) -> int | None:
        """None, since its parent reaps it."""
        return None

    def kill(self) -> None:
        """Send SIGKILL if it was ever ready; if not, it will see that its socket is closed."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class HelpersUnit:
    """Gets pool hosts from `ktaskd --pool-hosts`, which is another service.

    The service manager holds the listening socket, so connecting succeeds even while that service
    is being started or restarted.
    """

    def __init__(
        self, path: Path, *, normal_fd: int = -1, on_cgroup_fd: Callable[[int], None] = close_quietly
    ) -> None:
        """Connect to nothing yet.

        Args:
            path: path of its socket.
            normal_fd: cgroup.procs of a group with an ordinary weight, which is sent to
                hosts and stays the caller's. -1 = we have none.
            on_cgroup_fd: called with cgroup.procs of the hosts' group, and owns it.
        """
        self.waiting = f"{path} has not answered yet; look at ktaskd-helpers.service"
        self._path = path
        self._normal_fd = normal_fd
        self._on_cgroup_fd = on_cgroup_fd

    def start(self, name: str) -> _Remote:
        """Request one; raises OSError, also if the queue of the socket is full."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.setblocking(False)
            sock.connect(os.fspath(self._path))
            _, uid, _ = read_peer_credentials(sock)  # of the listening process
            if uid not in (0, os.geteuid()):
                # That process would receive the descriptors of clients.
                raise PermissionError(
                    errno.EPERM, f"belongs to uid {uid}; it must belong to uid 0 or {os.geteuid()}"
                )
        except OSError as error:
            sock.close()
            why = f"{self._path}: {error.strerror}; start ktaskd-helpers.socket"
            raise OSError(error.errno, why) from error
        greeting: list[Envelope] = [({"op": "name", "name": name}, [])]
        if self._normal_fd >= 0:
            greeting.append(({"op": "normal_group"}, [self._normal_fd]))
        return _Remote(sock, greeting, self._on_cgroup_fd)
