"""Connections that nobody serves: a keeper closes them, since closing what is in them can hang.

A connection that was refused, or whose keeper is lost, may hold descriptors
that nobody has taken out. Whoever closes the connection last closes those too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ktaskd.host.sockets.unixsock import Fds, close_quietly

PARKED_MAX = 1024
"""Connections that wait for a keeper to close them."""

BURY_S = 0.02
BURY_MAX = 64
"""Refused connections are passed on for closing together: so long after the first, so many at most."""

Grave = tuple[int, int]
"""The uid and the account whose keeper closes what was never served."""


class Burials:
    """Connections on their way to a keeper that closes them. Owns their descriptors.

    Args:
        send: passes descriptors on to the keeper of a grave, and then owns them;
            False if there is no keeper now.
    """

    def __init__(self, send: Callable[[Grave, Fds], bool]) -> None:
        """There are none."""
        self._send = send
        self._parked: deque[tuple[Grave, int]] = deque()
        self._refused: dict[Grave, Fds] = {}
        self._closed = False

    def collect(self, grave: Grave, fd: int) -> None:
        """Have a refused connection closed soon, together with others; owns `fd`."""
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
        """Have connections closed, now or when there is a keeper again; owns `fds`."""
        if self._send(grave, fds):
            return
        for fd in fds.take():
            if self._closed or len(self._parked) >= PARKED_MAX:
                close_quietly(fd)
            else:
                self._parked.append((grave, fd))

    def try_again(self) -> None:
        """There may be room for a keeper now."""
        for _ in range(len(self._parked)):
            grave, fd = self._parked.popleft()
            self.bury(grave, Fds([fd]))

    def flush(self) -> None:
        """Pass on what was collected. From now on what no keeper takes is closed here."""
        for grave, refused in list(self._refused.items()):
            self._bury_refused(grave, refused)
        self._closed = True

    def close(self) -> None:
        """Close what still waits."""
        for _, fd in self._parked:
            close_quietly(fd)
        self._parked.clear()
