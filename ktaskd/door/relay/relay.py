"""One relayed connection: the client's socket and the one that is dialled to gRPC for it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from ktaskd.door.admission.prices import CONNECTION_COST_S
from ktaskd.door.admission.turns import Ticket
from ktaskd.door.relay.calls import Calls
from ktaskd.door.relay.downstream import Downstream
from ktaskd.door.relay.pump import Pump
from ktaskd.door.relay.upstream import Upstream
from ktaskd.host.sockets.unixsock import close_quietly, has_hung_up
from ktaskd.model.identity import Identity

DIAL_PAUSE_S = 0.02
DIALS_MAX = 250
"""Attempts to reach the private socket while its queue is full: 5 s in all."""

log = logging.getLogger(__name__)


class Relay:
    """A client's connection and the inner one dialled for it. Owns both sockets and the caller's pidfd.

    Args:
        name: the abstract name that the inner socket is bound to.
        on_end: called once, when both sockets are closed.
        request_s: longest time in which a client may send one request; 0 = no limit.
    """

    __slots__ = (
        "_client",
        "_dial_timer",
        "_inner",
        "_on_end",
        "_pumps",
        "_request_s",
        "calls",
        "identity",
        "name",
        "ticket",
    )

    def __init__(
        self,
        client: socket.socket,
        identity: Identity,
        name: str,
        calls: Calls,
        on_end: Callable[[Relay], None],
        request_s: float,
    ) -> None:
        """Nothing is dialled yet.

        Raises:
            OSError: no socket can be made; `client` and the pidfd stay the caller's.
        """
        self._client = client
        self._request_s = request_s
        self._inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inner.setblocking(False)
        self._dial_timer: asyncio.TimerHandle | None = None
        self._pumps: list[Pump] = []
        self._on_end = on_end
        self.calls = calls
        self.identity = identity
        self.name = name
        self.ticket: Ticket | None = None
        """Set while the connection waits for its turn to be dialled."""

    def has_hung_up(self) -> bool:
        """Whether the client has gone, so that nothing it has sent matters."""
        return has_hung_up(self._client)

    def dial(self, path: str, tries: int = DIALS_MAX) -> None:
        """Connect from a socket bound to the name; end the relay if that is impossible."""
        self.ticket = None
        self.calls.user.charge(CONNECTION_COST_S)
        try:
            if not self._inner.getsockname():
                self._inner.bind(b"\0" + self.name.encode())
            self._inner.connect(path)
        except BlockingIOError:
            # The queue of the private socket is full. Unlike TCP, a unix socket does
            # not keep connecting on its own.
            self._dial_later(path, tries - 1)
        except OSError as error:
            log.error('dial_failed path=%s error="%s"', path, error)
            self.end()
        else:
            self._start()

    def _dial_later(self, path: str, tries: int) -> None:
        if not tries:
            self.end()
            return
        loop = asyncio.get_running_loop()
        self._dial_timer = loop.call_later(DIAL_PAUSE_S, self.dial, path, tries)

    def _start(self) -> None:
        client, inner, calls = self._client, self._inner, self.calls
        self._pumps = [
            Upstream(self._request_s, calls, client, inner, self._on_client_done, self.end),
            Downstream(calls, inner, client, self.end),
        ]
        for pump in self._pumps:
            pump.start()

    def _on_client_done(self) -> None:
        """Wait for the answers. The relay ends when gRPC closes, and gRPC closes both directions at once."""

    def end(self) -> None:
        """Close both ends at once. Repeating it does nothing."""
        if self._client.fileno() < 0:
            return
        for waiting in (self._dial_timer, self.ticket):
            if waiting is not None:
                waiting.cancel()
        for pump in self._pumps:
            pump.stop()
        self._client.close()
        self._inner.close()
        self.calls.end_all()
        self._on_end(self)
        if self.identity.pidfd >= 0:
            close_quietly(self.identity.pidfd)
