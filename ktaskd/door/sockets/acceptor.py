"""Accepts connections on one listening socket, also when descriptors or memory run out."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

ACCEPTS_AT_ONCE, ACCEPTS_AT_ONCE_S = 8, 0.001
"""Connections accepted before the loop does something else, and CPU time after which no more are."""

REFUSED_PAUSE_S = 0.002
REFUSED_PRICE = 8.0
"""Shortest pause after a refusal, and the pause as a multiple of the CPU time used. No account pays for
a refused client, and its next attempt must not cost the daemon more than the client."""

PAUSE_S = 0.5
"""Pause before the next attempt when no descriptor or memory is left."""

log = logging.getLogger(__name__)


class Acceptor:
    """Calls `on_accept` with each new connection.

    `on_accept` owns the connection and returns whether it may stay. The listening socket stays its creator's.
    """

    def __init__(self, listener: socket.socket, on_accept: Callable[[socket.socket], bool]) -> None:
        """Nothing is accepted before `start`."""
        self._listener = listener
        self._on_accept = on_accept
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept from now on, in the running loop."""
        self._listener.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._listen()

    def stop(self) -> None:
        """Accept no more; new connections wait in the kernel's queue."""
        if self._loop is None:
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._loop.remove_reader(self._listener.fileno())
        self._loop = None

    def _listen(self) -> None:
        assert self._loop is not None
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        refused, begin_s = False, time.thread_time()
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                self._on_failed(error)
                return
            sock.setblocking(False)
            refused = not self._on_accept(sock) or refused
            if self._loop is None:
                return
            if time.thread_time() - begin_s > ACCEPTS_AT_ONCE_S:
                break
        if refused:
            self._pause_for(max(REFUSED_PAUSE_S, REFUSED_PRICE * (time.thread_time() - begin_s)))

    def _on_failed(self, error: OSError) -> None:
        """Pause: the connection stays queued, and an immediate retry would spin."""
        log.warning('accept_paused error="%s" pause_s=%s', error, PAUSE_S)
        self._pause_for(PAUSE_S)

    def _pause_for(self, pause_s: float) -> None:
        """Accept nothing for `pause_s` seconds; new connections wait in the kernel's queue."""
        assert self._loop is not None
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(pause_s, self._listen)
