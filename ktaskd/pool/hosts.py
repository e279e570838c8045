"""Main of `ktaskd --pool-hosts`: forks a pool host for each connection to its socket.

This puts the helpers into a service of their own, whose slice gives way to everybody else, while
the daemon and its leads stay outside. The service manager makes the socket, and the daemon connects
once for each pool. The bodies of functions are loaded once; hosts are forked from this process, and
workers from the hosts.

Either side can end and be started again. Without the daemon a host sees end of file, kills and reaps
its workers and ends. When this process ends, the kernel signals its hosts (PR_SET_PDEATHSIG), which do
the same.

Run by `ktaskd --pool-hosts`: python -P -s -m ktaskd.pool.hosts, with one SOCK_SEQPACKET
socket in LISTEN_FDS.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import sys
from collections.abc import MutableMapping
from typing import NoReturn

from ktaskd.host import faults, logline
from ktaskd.host.cgroups import cgroup_fd
from ktaskd.host.processes import process
from ktaskd.host.sockets import notify
from ktaskd.host.sockets.unixsock import read_peer_credentials
from ktaskd.pool.host import LOG_NAME as HOST_LOG_NAME
from ktaskd.pool.host import PoolHost, warm_up

LISTEN_FDS_START = 3
"""Source: sd_listen_fds(3)"""

NAME = "ktaskd-hosts"
LOG_NAME = "ktaskd.pool.hosts"


class NoSocket(Exception):
    """The service manager passed no usable socket; the message says why."""


class Hosts:
    """Forks a pool host for each connection, until SIGTERM or SIGINT.

    Args:
        listener: stays the caller's.
        cgroup_fd: cgroup.procs of our own group, which hosts send to the daemon; -1 = none.
    """

    def __init__(self, listener: socket.socket, cgroup_fd: int = -1) -> None:
        """Accept no connection yet."""
        self._listener = listener
        self._cgroup_fd = cgroup_fd
        self._hosts: set[int] = set()
        self._ending = False
        self._wake_r, self._wake_w = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def run(self) -> None:
        """Serve; at the end send every host SIGTERM and wait for it."""
        for end in (self._wake_r, self._wake_w, self._listener):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_w.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_term)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        self._notify("READY=1")
        while not self._ending:
            for fd, _ in poll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_r.recv(4096)
            self._reap()
        notify.notify("STOPPING=1")
        self._end()

    def _on_term(self, *_: object) -> None:
        self._ending = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # the peer has gone, or there are too many files: try again at the next event
        with connection:
            pid, uid, _ = read_peer_credentials(connection)
            if uid not in (0, os.geteuid()):
                logline.report(LOG_NAME, f"not_served pid={pid} uid={uid}", "WARNING")
                return
            self._fork(connection)

    def _fork(self, connection: socket.socket) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            # The daemon sees the end of its connection and tries again later.
            logline.report(LOG_NAME, f'fork_failed error="{error}"')
            return
        if pid == 0:
            self._become_host(connection, parent)
        self._hosts.add(pid)
        self._notify()

    def _become_host(self, connection: socket.socket, parent: int) -> NoReturn:
        """In the child: close everything of this process, then run a host until the end."""
        status = 70
        try:
            signal.set_wakeup_fd(-1)
            process.set_death_signal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until there are workers to kill
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for end in (self._listener, self._wake_r, self._wake_w):
                end.close()
            if os.getppid() != parent:
                os._exit(0)  # the parent died before the death signal was set
            faults.hit("host.at_start")
            os.setsid()
            connection.setblocking(True)
            PoolHost(connection, self._cgroup_fd).run()
            status = 0
        except BaseException as error:
            logline.report_exception(HOST_LOG_NAME, error)
        finally:
            os._exit(status)

    def _reap(self) -> None:
        before = len(self._hosts)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._hosts.discard(ended[0])
        if len(self._hosts) != before:
            self._notify()

    def _end(self) -> None:
        for pid in self._hosts:
            os.kill(pid, signal.SIGTERM)
        for pid in self._hosts:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _notify(self, *lines: str) -> None:
        count = len(self._hosts)
        notify.notify(*lines, f"STATUS=pool hosts: {count}" if count else "STATUS=waiting for the daemon")


def adopt_listener(environ: MutableMapping[str, str]) -> socket.socket:
    """Take the listening socket that was passed, and LISTEN_* out of `environ`; raises NoSocket.

    Source: sd_listen_fds(3)
    """
    pid, count, _ = (environ.pop(f"LISTEN_{part}", "") for part in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or count != "1":
        got = count if pid == str(os.getpid()) else "none"
        raise NoSocket(f"LISTEN_FDS: got {got}, wanted 1; start this through ktaskd-helpers.socket")
    os.set_inheritable(LISTEN_FDS_START, False)
    if not stat.S_ISSOCK(os.fstat(LISTEN_FDS_START).st_mode):
        raise NoSocket("LISTEN_FDS: descriptor 3 is not a socket; start this through ktaskd-helpers.socket")
    sock = socket.socket(fileno=LISTEN_FDS_START)
    accepting = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET) or not accepting:
        sock.close()
        raise NoSocket(
            "LISTEN_FDS: wanted a listening unix socket of type seqpacket (ListenSequentialPacket=)"
        )
    return sock


def main() -> int:
    """Serve until SIGTERM or SIGINT; 0 = ended well, 2 = no usable socket."""
    logline.report_uncaught(LOG_NAME)
    own_fd = cgroup_fd.take_stdout()
    try:
        listener = adopt_listener(os.environ)
    except (NoSocket, OSError) as error:
        print(f"ktaskd: --pool-hosts: {error}", file=sys.stderr)
        return 2
    process.set_name(NAME)
    process.apply_undumpable()
    warm_up()
    Hosts(listener, own_fd).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
