"""The two ways in which a pool gets its host: as a child of the daemon, or from a unit of its own."""

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

Telling = tuple[dict[str, Any], list[int]]
"""A message to a pool host and the descriptors that go with it, which stay the sender's."""


class StartedHost(Protocol):
    """A pool host that was asked for.

    Attributes:
        control: our end of its socket, non-blocking; the caller closes it.
        pid, pidfd: 0 and -1 until they are known; the caller closes the pidfd.
        greeting: what it is told first.
    """

    control: socket.socket
    pid: int
    pidfd: int
    greeting: list[Telling]

    def on_ready(self, message: dict[str, Any], fds: list[int]) -> None:
        """It is ready; owns `fds`. From here on pid and pidfd are known."""

    def reap(self) -> int | None:
        """Its exit status once it is dead, as of subprocess; None if only somebody else can tell."""

    def kill(self) -> None:
        """Send SIGKILL, if it is known whom to."""


class Starter(Protocol):
    """A way to get pool hosts. Never blocks for long."""

    waiting: str
    """What is waited for between `start` and the host's "ready", in words; "" = nothing that takes time."""

    def start(self, name: str) -> StartedHost:
        """Get one; raises OSError."""


class _Child:
    """A pool host that is our own child."""

    def __init__(self, control: socket.socket, popen: subprocess.Popen[bytes]) -> None:
        """Own both."""
        self.control = control
        self.pid = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)
        self.greeting: list[Telling] = []
        self._popen = popen

    def on_ready(self, message: dict[str, Any], fds: list[int]) -> None:
        """Nothing that we do not know, since we started it."""
        for fd in fds:
            os.close(fd)

    def reap(self) -> int | None:
        """Its exit status."""
        return self._popen.wait()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._popen.kill()


class Children:
    """Starts pool hosts as children, where the daemon itself is."""

    waiting = ""

    def __init__(self, *, one_user: bool = False) -> None:
        """Nothing is started yet.

        Args:
            one_user: nobody but the daemon's own user has jobs here.
        """
        self._one_user = one_user

    def start(self, name: str) -> _Child:
        """Start one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Where we work for several users, who must not see each other's data.
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

    As with -I, since `environment` has no variable for the interpreter but those of
    `erasing`, which -I would not let count.
    """
    return [sys.executable, "-P", "-s", "-m", module]


def environment(*also: str, erase: bool) -> dict[str, str]:
    """What a pool host may know of our environment: no sockets, no secrets.

    Args:
        also: names of variables that it gets too.
        erase: whether it is to erase what it frees.
    """
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "JOURNAL_STREAM", "KTASKD_FAULTS", *also)
    own = {name: os.environ[name] for name in kept if name in os.environ}
    return own | erasing.ENVIRONMENT if erase else own


class _Remote:
    """A pool host that another process forked for us, and reaps."""

    def __init__(
        self, control: socket.socket, greeting: list[Telling], on_door: Callable[[int], None]
    ) -> None:
        """Own the socket."""
        self.control = control
        self.pid = 0
        self.pidfd = -1
        self.greeting = greeting
        self._on_door = on_door

    def on_ready(self, message: dict[str, Any], fds: list[int]) -> None:
        """Learn who it is, and pass the door of its cgroup on."""
        if self.pidfd >= 0 or not fds:
            for fd in fds:
                os.close(fd)
            return
        self.pid, self.pidfd = int(message["pid"]), fds[0]
        if len(fds) > 1:
            self._on_door(fds[1])

    def reap(self) -> int | None:
        """Its parent does that."""
        return None

    def kill(self) -> None:
        """Send SIGKILL, if it was ever ready; else it sees that its socket is closed."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class HelpersUnit:
    """Gets pool hosts from `ktaskd --pool-hosts`, which is another service.

    The service manager holds the listening socket, so that connecting succeeds
    also while that service is started, or started again.
    """

    def __init__(
        self, path: Path, *, normal_fd: int = -1, on_door: Callable[[int], None] = close_quietly
    ) -> None:
        """Connect to nothing yet.

        Args:
            path: of its socket.
            normal_fd: cgroup.procs of a group with an ordinary weight, which hosts
                are given; stays the caller's. -1 = we have none.
            on_door: given cgroup.procs of the hosts' own group, and owns it.
        """
        self.waiting = f"{path} has not answered yet; look at ktaskd-helpers.service"
        self._path = path
        self._normal_fd = normal_fd
        self._on_door = on_door

    def start(self, name: str) -> _Remote:
        """Ask for one. A full queue of the socket is an error as any other."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.setblocking(False)
            sock.connect(os.fspath(self._path))
            _, uid, _ = read_peer_credentials(sock)  # of whoever listens: the service manager, say
            if uid not in (0, os.geteuid()):
                # It would be given what clients hand over.
                raise PermissionError(errno.EPERM, f"belongs to uid {uid}, wanted {os.geteuid()} or 0")
        except OSError as error:
            sock.close()
            why = f"{self._path}: {error.strerror}; start ktaskd-helpers.socket"
            raise OSError(error.errno, why) from error
        greeting: list[Telling] = [({"op": "name", "name": name}, [])]
        if self._normal_fd >= 0:
            greeting.append(({"op": "door"}, [self._normal_fd]))
        return _Remote(sock, greeting, self._on_door)
