"""Serves the metrics on a unix socket, to clients that may be slow, silent or hostile.

Each connection gets one answer within a deadline. All answers share the same bytes, and making these
bytes takes at most a small part of the loop's time, however often clients ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable

from ktaskd.door.admission.shares import Shares
from ktaskd.door.sockets.acceptor import Acceptor
from ktaskd.host.sockets.unixsock import read_peer_credentials
from ktaskd.metrics.request import HEAD_BYTES_MAX, answer, is_whole
from ktaskd.model.errors import QuotaFull
from ktaskd.model.identity import Identity

CONNECTIONS, CONNECTIONS_PER_UID = 16, 6
"""Most connections at the same time, of all users and of one."""

DEADLINE_S = 5.0
"""A connection ends after this time, whether or not its request or its answer is complete."""

FRESH_S, COST_FACTOR = 1.0, 50.0
"""The text is made again when it is older than this many seconds, and than this many times the time
that making it took."""

log = logging.getLogger(__name__)


class Fresh:
    """Keeps the text that was made last, for all who ask soon after."""

    def __init__(self, make: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        """Make nothing yet."""
        self._make, self._clock = make, clock
        self._text = b""
        self._until_s = 0.0

    def __call__(self) -> bytes:
        """Return the text, which is made again if it is old."""
        begin_s = self._clock()
        if not self._text or begin_s >= self._until_s:
            self._text = self._make()
            end_s = self._clock()
            self._until_s = end_s + max(FRESH_S, COST_FACTOR * (end_s - begin_s))
        return self._text


class Server:
    """Answers on a listening socket, which stays its creator's.

    Args:
        text: makes the answer's body.
        deadline_s: replaces DEADLINE_S.
    """

    def __init__(
        self,
        listener: socket.socket,
        text: Callable[[], bytes],
        content_type: str,
        admins: frozenset[int],
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Accept nothing yet."""
        self._acceptor = Acceptor(listener, self._on_accept)
        self._text, self._content_type = text, content_type
        self._shares = Shares(
            "metrics connections", total=CONNECTIONS, per_uid=CONNECTIONS_PER_UID, admins=admins
        )
        self._deadline_s = deadline_s
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """Number of connections now."""
        return len(self._tasks)

    def start(self) -> None:
        """Accept from now on, in the running loop."""
        self._acceptor.start()

    async def close(self) -> None:
        """End all connections; the listening socket stays open."""
        self._acceptor.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_accept(self, sock: socket.socket) -> bool:
        try:
            pid, uid, gid = read_peer_credentials(sock)
            who = Identity(uid, gid, pid)
            self._shares.check(who)
        except (OSError, QuotaFull):
            sock.close()
            return False
        self._shares.add(who)
        task = asyncio.get_running_loop().create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._on_ended(ended, sock, who))
        return True

    def _on_ended(self, task: asyncio.Task[None], sock: socket.socket, who: Identity) -> None:
        # Here and not in the task: a task that is cancelled before its first step runs nothing.
        sock.close()
        self._tasks.discard(task)
        self._shares.remove(who)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error('metrics_failed error="%s"', repr(error))

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # a TimeoutError is one
            async with asyncio.timeout(self._deadline_s):
                head = b""
                while not is_whole(head):
                    piece = await loop.sock_recv(sock, HEAD_BYTES_MAX + 1 - len(head))
                    if not piece:
                        break
                    head += piece
                if not head:
                    return
                for part in answer(head, self._text, self._content_type):
                    await loop.sock_sendall(sock, part)
