"""Accepting connections on one listening socket, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable

ACCEPTS_PER_TURN, ACCEPT_TURN_S = 8, 0.001
"""Connections taken before the loop may do something else, and CPU time after which no further one is."""

REFUSED_PAUSE_S = 0.002
REFUSED_PRICE = 8.0
"""Wait after a turn in which somebody was refused, and so many times what the turn took: whoever
is refused belongs to nobody's account, and asking again must not cost us more than them."""

PAUSE_S = 0.5
"""Wait before the next try when there is no descriptor or memory left."""

log = logging.getLogger(__name__)


class Acceptor:
    """Calls `on_accept` with each new connection, which then owns the socket.

    It returns whether the connection may stay. The listening socket stays its creator's.
    """

    def __init__(self, listener: socket.socket, on_accept: Callable[[socket.socket], bool]) -> None:
        """Hold them; nothing is accepted before start."""
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
        """Accept no more; who connects now waits in the kernel's queue."""
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
        for _ in range(ACCEPTS_PER_TURN):
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
            if time.thread_time() - begin_s > ACCEPT_TURN_S:
                break
        if refused:
            self._rest(max(REFUSED_PAUSE_S, REFUSED_PRICE * (time.thread_time() - begin_s)))

    def _on_failed(self, error: OSError) -> None:
        """Wait a little: the connection stays queued, and trying at once would spin."""
        log.warning('accept_paused error="%s" pause_s=%s', error, PAUSE_S)
        self._rest(PAUSE_S)

    def _rest(self, pause_s: float) -> None:
        """Accept nothing for so long; who connects waits in the kernel's queue."""
        assert self._loop is not None
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(pause_s, self._listen)
