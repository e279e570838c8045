"""The handoff socket: descriptors come in, handles go out."""

from __future__ import annotations

import itertools
import logging
import socket
from collections import Counter
from collections.abc import Callable

from ktask.v1.handoff import Dropped, Handles, Refused, Reply

from ktaskd.door.acceptor import Acceptor
from ktaskd.door.handles import HandleTable
from ktaskd.door.keepers import Keepers
from ktaskd.door.turns import Queue, Ticket, Turns
from ktaskd.host.unixsock import Fds, read_peer_credentials
from ktaskd.model.errors import Draining, KtaskError, QuotaFull
from ktaskd.model.source import SourceFacts

_CONNECTIONS = itertools.count(1)

_log = logging.getLogger(__name__)


class _Client:
    """One connection: what the keeper passes on becomes handles of its uid."""

    def __init__(
        self,
        uid: int,
        sock: socket.socket,
        queue: Queue,
        handles: HandleTable,
        on_gone: Callable[[_Client], None],
    ) -> None:
        self.uid = uid
        self.sock = sock
        self.queue = queue
        self.ticket: Ticket | None = None
        """While it waits for its turn."""
        self.conn = -1
        self._connection = next(_CONNECTIONS)
        self._handles = handles
        self._on_gone = on_gone

    def on_handed(self, number: int, facts: list[SourceFacts], fds: Fds) -> Reply:
        """Hold all of them, or none."""
        try:
            self._handles.check_room(self.uid, len(facts))
        except QuotaFull as error:
            return Refused(number, error.reason, error.message)
        pairs = zip(fds.take(), facts, strict=True)
        return Handles(number, tuple(self._handles.add(self.uid, self._connection, *pair) for pair in pairs))

    def on_drop(self, number: int, handles: list[str]) -> Reply:
        """Forget those that are this connection's."""
        for handle in handles:
            self._handles.drop(handle, self._connection)
        return Dropped(number, len(handles))

    def on_end(self) -> None:
        """Forget all handles of this connection."""
        self._handles.drop_connection(self._connection)
        self._on_gone(self)


class HandoffDoor:
    """Accepts on the handoff socket, and gives each connection to its uid's keeper.

    Args:
        listener: stays the caller's.
        per_uid, total: most connections at one time; more are told so and closed.
        on_change: called whenever a connection came or went.
        turns: which uid's connections come in when; shared with other doors.
    """

    def __init__(
        self,
        listener: socket.socket,
        handles: HandleTable,
        keepers: Keepers,
        *,
        per_uid: int,
        total: int,
        on_change: Callable[[], None] | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Hold them; nothing is accepted before start."""
        self._turns = turns or Turns()
        self._handles = handles
        self._keepers = keepers
        self._on_change = on_change
        self._acceptor = Acceptor(listener, self._on_accept)
        self._clients: set[_Client] = set()
        self._per_uid: Counter[int] = Counter()
        self.per_uid = per_uid
        self.total = total
        self.refused = 0
        """Connections that were closed at once since the start."""

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._clients)

    async def start(self) -> None:
        """Accept from now on, in the running loop."""
        self._acceptor.start()

    async def close(self) -> None:
        """Accept no more and end all connections, and with them their handles."""
        self._acceptor.stop()
        for client in list(self._clients):
            if client.ticket is not None:
                client.ticket.cancel()
                self._refuse(client, Draining("the daemon is closing"))
            else:
                self._keepers.hang_up(client.conn)

    def _on_accept(self, sock: socket.socket) -> bool:
        try:
            _, uid, _ = read_peer_credentials(sock)
        except OSError:
            sock.close()
            return False
        client = _Client(uid, sock, self._turns.join(uid), self._handles, self._on_gone)
        self._clients.add(client)
        self._per_uid[uid] += 1
        try:
            self._check_room(uid)
        except QuotaFull as error:
            self._refuse(client, error)
            return False
        client.ticket = client.queue.ask(lambda: self._serve(client), call=False)
        if client.ticket is None:
            self._serve(client)
        self._changed()
        return True

    def _serve(self, client: _Client) -> None:
        """It is the connection's turn."""
        client.ticket = None
        try:
            client.conn = self._keepers.serve(client.uid, client.sock, client)
        except KtaskError as error:
            self._refuse(client, error)
        except OSError:
            self._refuse(client, QuotaFull("the daemon has no descriptors left"))

    def _refuse(self, client: _Client, error: KtaskError) -> None:
        """Tell why it is not served, and close."""
        self.refused += 1
        _log.info("event=handoff_refused uid=%d error=%s", client.uid, error)
        self._keepers.refuse(client.uid, client.sock, error)
        self._on_gone(client)

    def _check_room(self, uid: int) -> None:
        if self._per_uid[uid] > self.per_uid:
            raise QuotaFull(f"connections: uid {uid} has {self.per_uid}, which is all that it may")
        if len(self._clients) > self.total:
            raise QuotaFull(f"connections: {self.total} are open, which are all that may be")

    def _on_gone(self, client: _Client) -> None:
        self._clients.discard(client)
        self._turns.leave(client.queue)
        self._per_uid[client.uid] -= 1
        if not self._per_uid[client.uid]:
            del self._per_uid[client.uid]
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()
