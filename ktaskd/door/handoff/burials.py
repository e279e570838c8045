"""Connections that nobody serves. A keeper closes them, since closing the descriptors in them can hang.

A connection that was refused, or whose keeper is lost, may hold descriptors
that nobody has taken out. The process that closes the connection last closes those, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ktaskd.host.sockets.unixsock import Fds, close_quietly

PARKED_MAX = 1024
"""Most connections that wait for a keeper to close them."""

BURY_S = 0.02
BURY_MAX = 64
"""Refused connections are passed on together: this long after the first, and at most this many."""

Grave = tuple[int, int]
"""The uid and the account whose keeper closes a connection that was never served."""


class Burials:
    """Connections on their way to a keeper that closes them. Owns their descriptors.

    Args:
        send: passes descriptors on to the keeper of a grave, and then owns them;
            returns False if there is no keeper now.
    """

    def __init__(self, send: Callable[[Grave, Fds], bool]) -> None:
        """Start with none."""
        self._send = send
        self._parked: deque[tuple[Grave, int]] = deque()
        self._refused: dict[Grave, Fds] = {}
        self._closed = False

    def collect(self, grave: Grave, fd: int) -> None:
        """Pass a refused connection on soon, together with others; owns `fd`."""
        known = self._refused.get(grave)
        if known is None:
            known = self._refused[grave] = Fds()
            asyncio.get_running_loop().call_later(BURY_S, self._bury_refused, grave, known)
        known.add(fd)
        if len(known) >= BURY_MAX:
            self._bury_refused(grave, known)

    def _bury_refused(self, grave: Grave, refused: Fds) -> None:
        if self._refused.get(grave) is refused:
            del self._refused[grave]
            self.bury(grave, refused)

    def bury(self, grave: Grave, fds: Fds) -> None:
        """Pass connections on, now or when there is a keeper again; owns `fds`."""
        if self._send(grave, fds):
            return
        for fd in fds.take():
            if self._closed or len(self._parked) >= PARKED_MAX:
                close_quietly(fd)
            else:
                self._parked.append((grave, fd))

    def try_again(self) -> None:
        """Pass on what waits, now that there may be room for a keeper."""
        for _ in range(len(self._parked)):
            grave, fd = self._parked.popleft()
            self.bury(grave, Fds([fd]))

    def flush(self) -> None:
        """Pass on the collected connections. From now on those that no keeper takes are closed here."""
        for grave, refused in list(self._refused.items()):
            self._bury_refused(grave, refused)
        self._closed = True

    def close(self) -> None:
        """Close the connections that still wait."""
        for _, fd in self._parked:
            close_quietly(fd)
        self._parked.clear()
