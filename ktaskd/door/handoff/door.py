"""The handoff socket: descriptors come in, handles go out."""

from __future__ import annotations

import itertools
import logging
import socket
import time
from collections.abc import Callable

from ktask.v1.handoff import Dropped, Handles, Refused, Reply

from ktaskd.door.admission.prices import CONNECTION_COST_S
from ktaskd.door.admission.shares import Shares
from ktaskd.door.admission.turns import Ticket, User
from ktaskd.door.entry import Entry
from ktaskd.door.handoff.handles import HandleTable
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.door.sockets.acceptor import Acceptor
from ktaskd.host.sockets.unixsock import Fds, read_peer_credentials
from ktaskd.model.errors import Draining, IdentityMissing, KtaskError, QuotaFull
from ktaskd.model.identity import Identity
from ktaskd.model.source import SourceFacts

HAND_COST_S = 5e-5
"""Cost to the loop of a request, and of each descriptor in it: the keeper's messages and the handle."""

_CONNECTIONS = itertools.count(1)

log = logging.getLogger(__name__)


class _Client:
    """One connection: descriptors that the keeper passes on become handles of its uid."""

    def __init__(
        self,
        who: Identity,
        sock: socket.socket,
        user: User,
        handles: HandleTable,
        on_gone: Callable[[_Client], None],
        check_room: Callable[[_Client, int, int], None],
    ) -> None:
        self.who = who
        self.uid = who.uid
        self.sock = sock
        self.user = user
        self.ticket: Ticket | None = None
        """Set while the connection waits for its turn to be served."""
        self._answer: Ticket | None = None
        """Set while an answer waits for its turn."""
        self.conn = -1
        self._connection = next(_CONNECTIONS)
        self._handles = handles
        self._on_gone = on_gone
        self._check_room = check_room

    def on_handed(self, number: int, facts: list[SourceFacts], fds: Fds) -> Reply:
        """Make handles for all descriptors, or for none."""
        self.user.charge(HAND_COST_S * (1 + len(facts)))
        try:
            self._check_room(self, len(facts), max(fds, default=0))
            self._handles.check_room(self.uid, len(facts))
        except QuotaFull as error:
            return Refused(number, error.reason, error.message)
        opened = list(zip(fds.take(), facts, strict=True))
        return Handles(number, tuple(self._handles.add_all(self.uid, self._connection, opened)))

    def on_drop(self, number: int, handles: list[str]) -> Reply:
        """Forget the handles that belong to this connection."""
        self.user.charge(HAND_COST_S * (1 + len(handles)))
        for handle in handles:
            self._handles.drop(handle, self._connection)
        return Dropped(number, len(handles))

    def in_turn(self, go: Callable[[], None]) -> None:
        """Call `go` when it is the user's turn, unless the connection ends before that."""

        def on_turn() -> None:
            self._answer = None
            go()

        self._answer = self.user.ask(on_turn)
        if self._answer is None:
            go()

    def on_end(self) -> None:
        """Forget all handles of this connection."""
        if self._answer is not None:
            self._answer.cancel()
        self._handles.drop_connection(self._connection)
        self._on_gone(self)


class HandoffDoor:
    """Accepts on the handoff socket, and gives each connection to its uid's keeper.

    Args:
        listener: stays the caller's.
        shares: counts the connections; more than it allows are refused.
        entry: what this door shares with the other one.
    """

    def __init__(
        self,
        listener: socket.socket,
        handles: HandleTable,
        keepers: Keepers,
        shares: Shares,
        entry: Entry,
    ) -> None:
        """Nothing is accepted before `start`."""
        self._turns = entry.turns
        self._reception = entry.reception
        self._changed = entry.on_change
        self._shares = shares
        self._handles = handles
        self._keepers = keepers
        self._acceptor = Acceptor(listener, self._on_accept)
        self._clients: set[_Client] = set()
        self.refused = 0
        """Connections that were not served, since the start."""

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
                self._refuse_admitted(client, Draining("the daemon is closing"))
            else:
                self._keepers.hang_up(client.conn)

    def _on_accept(self, sock: socket.socket) -> bool:
        try:
            pid, uid, gid = read_peer_credentials(sock)
        except OSError:
            sock.close()
            return False
        try:
            who = self._reception.identify(pid, uid, gid)
            self._reception.check_room(who, sock.fileno())
            self._shares.check(who)
        except (IdentityMissing, QuotaFull) as error:
            self._refuse(uid, sock, error)
            return False
        self._admit(who, sock)
        return True

    def _admit(self, who: Identity, sock: socket.socket) -> None:
        user = self._turns.join(who.uid, who.payer)
        client = _Client(who, sock, user, self._handles, self._on_gone, self._check_room)
        self._clients.add(client)
        self._shares.add(who)
        client.ticket = user.ask(lambda: self._serve(client))
        if client.ticket is None:
            self._serve(client)
        self._changed()

    def _check_room(self, client: _Client, count: int, fd: int) -> None:
        """Raise QuotaFull unless an account may hold `count` more descriptors; `fd` is the newest."""
        self._reception.check_room(client.who, fd)
        mine = sum(self._handles.count(uid) for uid in client.user.account.users)
        others = len(self._handles) - mine
        self._reception.check_share(client.who, mine + count, others)

    def _serve(self, client: _Client) -> None:
        """Give the connection to a keeper, now that it is its turn."""
        client.ticket = None
        begin_s = time.thread_time()
        try:
            client.conn = self._keepers.serve(client.who, client.sock, client)
        except KtaskError as error:
            self._refuse_admitted(client, error)
        except OSError:
            self._refuse_admitted(client, QuotaFull("the daemon has no descriptors left"))
        # This includes the start of a keeper, if one was needed.
        client.user.charge(CONNECTION_COST_S + time.thread_time() - begin_s)

    def _refuse_admitted(self, client: _Client, error: KtaskError) -> None:
        self._refuse(client.uid, client.sock, error, account=client.who.payer)
        self._on_gone(client)

    def _refuse(self, uid: int, sock: socket.socket, error: KtaskError, account: int | None = None) -> None:
        """Send the reason why a connection is not served, and close it."""
        self.refused += 1
        log.info('handoff_refused uid=%d error="%s"', uid, error)
        self._keepers.refuse(uid, sock, error, account=account)

    def _on_gone(self, client: _Client) -> None:
        self._clients.discard(client)
        self._shares.remove(client.who)
        self._turns.leave(client.user)
        self._changed()
