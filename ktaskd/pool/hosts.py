"""Main of `ktaskd --pool-hosts`: makes a pool host of each connection to its socket.

The helpers' processes are so in a service of their own, whose slice gives way
to everybody else, while the daemon and its leads are not. The service manager
made the socket; who connects is the daemon, once for each pool. The bodies are
loaded once, hosts are forked from that, and workers from them.

Either side may end and be started again: without the daemon a host sees the end
of its socket, kills and reaps its workers and ends; when this process ends, the
kernel tells its hosts (PR_SET_PDEATHSIG), who do the same.

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
from ktaskd.host.cgroups import cgroup_fd as door
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
    """What was passed is not what is wanted; the message says why."""


class Hosts:
    """Forks a pool host for each connection, until it is told to end.

    Args:
        listener: stays the caller's.
        door: cgroup.procs of our own group, which hosts pass on; -1 = none.
    """

    def __init__(self, listener: socket.socket, door: int = -1) -> None:
        """Serve nobody yet."""
        self._listener = listener
        self._door = door
        self._hosts: set[int] = set()
        self._told_to_end = False
        self._wake_r, self._wake_w = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def run(self) -> None:
        """Serve; at the end every host is told, and waited for."""
        for end in (self._wake_r, self._wake_w, self._listener):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_w.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_term)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        self._say("READY=1")
        while not self._told_to_end:
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
        self._told_to_end = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it has gone again, or there are too many files: the next turn
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
        self._say()

    def _become_host(self, connection: socket.socket, parent: int) -> NoReturn:
        """The child: leave everything of ours behind, then be a host until the end."""
        status = 70
        try:
            signal.set_wakeup_fd(-1)
            process.set_death_signal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as long as there is no worker to kill
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for end in (self._listener, self._wake_r, self._wake_w):
                end.close()
            if os.getppid() != parent:
                os._exit(0)  # it died before the kernel was told to watch it
            faults.hit("host.at_start")
            os.setsid()
            connection.setblocking(True)
            PoolHost(connection, self._door).run()
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
            self._say()

    def _end(self) -> None:
        for pid in self._hosts:
            os.kill(pid, signal.SIGTERM)
        for pid in self._hosts:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _say(self, *lines: str) -> None:
        count = len(self._hosts)
        notify.notify(*lines, f"STATUS=pool hosts: {count}" if count else "STATUS=waiting for the daemon")


def adopt_listener(environ: MutableMapping[str, str]) -> socket.socket:
    """The one listening socket that was passed; raises NoSocket. Takes LISTEN_* out of `environ`.

    Source: sd_listen_fds(3)
    """
    pid, count, _ = (environ.pop(f"LISTEN_{part}", "") for part in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or count != "1":
        got = count if pid == str(os.getpid()) else "none"
        raise NoSocket(f"LISTEN_FDS: got {got}, wanted 1, the socket of ktaskd-helpers.socket")
    os.set_inheritable(LISTEN_FDS_START, False)
    if not stat.S_ISSOCK(os.fstat(LISTEN_FDS_START).st_mode):
        raise NoSocket("LISTEN_FDS: descriptor 3 is no socket")
    sock = socket.socket(fileno=LISTEN_FDS_START)
    accepting = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET) or not accepting:
        sock.close()
        raise NoSocket("LISTEN_FDS: wanted a listening unix socket of type seqpacket")
    return sock


def main() -> int:
    """Serve until told to end; 0 = ended well, 2 = got no socket."""
    logline.report_uncaught(LOG_NAME)
    own_door = door.take_stdout()
    try:
        listener = adopt_listener(os.environ)
    except (NoSocket, OSError) as error:
        print(f"ktaskd: --pool-hosts: {error}", file=sys.stderr)
        return 2
    process.set_name(NAME)
    process.apply_undumpable()
    warm_up()
    Hosts(listener, own_door).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
