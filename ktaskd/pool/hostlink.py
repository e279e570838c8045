"""A pool's connection to its pool host: starts the host, talks to it, and replaces it when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections import deque
from typing import Any, Protocol

from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.pool.respawn import respawn_delay
from ktaskd.pool.starting import StartedHost, Starter

log = logging.getLogger(__name__)


class HostOwner(Protocol):
    """The pool that a host belongs to. Calls come from the event loop, one at a time."""

    def on_host_message(self, message: dict[str, Any], fds: list[int]) -> None:
        """The host sent a message other than "ready"; the pool owns `fds`."""

    def on_host_dead(self) -> bool:
        """The host is dead, and its workers will be soon; returns whether to start another host."""

    def restart_host(self) -> None:
        """The pause after a host's death is over."""


class HostLink:
    """Keeps at most one pool host at a time.

    Attributes:
        respawns: how many hosts have died and were to be replaced.
        trouble: why there is no pool host now, in words; "" if there is one, or soon will be.
        early_deaths: hosts that died soon after their start, in a row.
    """

    def __init__(self, name: str, starter: Starter, owner: HostOwner) -> None:
        """Start nothing yet. Needs the running loop."""
        self.respawns = 0
        self.trouble = ""
        self.early_deaths = 0
        self._name = name
        self._starter = starter
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._host: StartedHost | None = None
        self._restart_timer: asyncio.TimerHandle | None = None
        self._started_s = 0.0
        self._unsent: deque[tuple[bytes, list[int]]] = deque()

    @property
    def is_there(self) -> bool:
        """Whether a host was started and is not known to be dead."""
        return self._host is not None

    @property
    def pid(self) -> int:
        """Pid of the host; 0 if there is none, or its pid is not known yet."""
        return self._host.pid if self._host is not None else 0

    # -- life ---------------------------------------------------------------------

    def start(self) -> bool:
        """Start a host; False if that failed: then `restart_host` follows after a pause."""
        self.stop_restart()
        self._started_s = self._loop.time()
        try:
            host = self._starter.start(self._name)
        except OSError as error:
            self._restart_later(error.strerror or str(error))
            return False
        self._host = host
        self.trouble = self._describe(self._starter.waiting)
        self._loop.add_reader(host.control.fileno(), self._on_control)
        if host.pidfd >= 0:
            self._loop.add_reader(host.pidfd, self._on_dead)
        for message, fds in host.greeting:
            self.send(message, fds)
        return True

    def hang_up(self) -> None:
        """Send end of file: the host kills and reaps its workers, then ends."""
        if self._host is not None:
            self._host.control.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Send SIGKILL. A host that has not answered yet counts as dead at once."""
        if self._host is not None:
            self._host.kill()
            if self._host.pidfd < 0:
                self._on_dead()  # the process that should fork it will find the connection closed

    def close(self) -> None:
        """Close the connection."""
        if self._host is None:
            return
        host, self._host = self._host, None
        self._loop.remove_reader(host.control.fileno())
        self._loop.remove_writer(host.control.fileno())
        host.control.close()
        self._unsent.clear()
        if host.pidfd >= 0:
            self._loop.remove_reader(host.pidfd)
            os.close(host.pidfd)

    def stop_restart(self) -> None:
        """Do not start another host when the pause is over."""
        if self._restart_timer is not None:
            self._restart_timer.cancel()
            self._restart_timer = None

    def _on_dead(self) -> None:
        """The host is dead, and so will be all its workers soon (PR_SET_PDEATHSIG)."""
        host = self._host
        assert host is not None
        if host.pidfd >= 0:
            self._on_control()  # exit statuses that it could still send
        status = host.reap()
        self.close()
        if self._owner.on_host_dead():
            self.respawns += 1
            self._restart_later(f"died, {'exit status not known' if status is None else f'status {status}'}")

    def _restart_later(self, why: str) -> None:
        """Start another one after a pause, which is longer after each host that died early."""
        lived_s = self._loop.time() - self._started_s
        delay_s, self.early_deaths = respawn_delay(
            lived_s=lived_s, was_busy=False, early_deaths=self.early_deaths
        )
        trouble, before = self._describe(why), self.trouble
        self.trouble = trouble
        level = logging.WARNING if trouble != before else logging.DEBUG
        log.log(level, 'no_pool_host pool=%s why="%s" again_in_s=%.1f', self._name, why, delay_s)
        self.stop_restart()
        self._restart_timer = self._loop.call_later(delay_s, self._owner.restart_host)

    def _describe(self, why: str) -> str:
        return f"pool host of {self._name}: {why}" if why else ""

    # -- messages from the host ---------------------------------------------------------

    def _on_control(self) -> None:
        host = self._host
        while host is not None and host is self._host:
            try:
                frame, fds, _, _ = socket.recv_fds(host.control, FRAME_BYTES_MAX, 2)
            except BlockingIOError:
                return
            except OSError:
                frame, fds = b"", []
            for fd in fds:
                os.set_inheritable(fd, False)
            if not frame:
                self._loop.remove_reader(host.control.fileno())
                if host.pidfd < 0:
                    self._on_dead()  # it ended before it was ready
                return  # its pidfd reports the death
            self._on_message(host, json.loads(frame), fds)

    def _on_message(self, host: StartedHost, message: dict[str, Any], fds: list[int]) -> None:
        if message["op"] != "ready":
            self._owner.on_host_message(message, fds)
            return
        self.early_deaths = 0
        self.trouble = ""
        known = host.pidfd >= 0
        host.on_ready(message, fds)
        if not known and host.pidfd >= 0:
            self._loop.add_reader(host.pidfd, self._on_dead)

    # -- messages to the host -----------------------------------------------------------

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send a message when the socket has room; `fds` stay the caller's. Without a host it is lost."""
        if self._host is not None:
            self._unsent.append((json.dumps(message).encode(), fds or []))
            self._send_queued()

    def _send_queued(self) -> None:
        """Send what the socket takes: the messages for many CPUs do not fit into it at once."""
        if self._host is None:
            return
        control = self._host.control
        while self._unsent:
            frame, fds = self._unsent[0]
            try:
                socket.send_fds(control, [frame], fds)
            except BlockingIOError:
                self._loop.add_writer(control.fileno(), self._send_queued)
                return
            except OSError:
                pass  # the host is dying: _on_dead follows
            self._unsent.popleft()
        self._loop.remove_writer(control.fileno())
