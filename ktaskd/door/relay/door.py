"""The public gRPC socket: learns who connects, and relays to the private one.

grpc neither reads SO_PEERCRED nor accepts a socket from elsewhere. But it shows
a servicer the name that the peer's socket is bound to, so each relay dials
from a socket with a name of its own, and the name stands for the identity.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from ktaskd.door.admission.budget import Budget, Purse
from ktaskd.door.admission.places import Places
from ktaskd.door.admission.shares import Shares
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.entry import Entry
from ktaskd.door.relay.calls import Calls
from ktaskd.door.relay.refusals import RESOURCE_EXHAUSTED, UNAUTHENTICATED, Refusals
from ktaskd.door.relay.relay import Relay
from ktaskd.door.sockets.acceptor import Acceptor
from ktaskd.host.sockets.unixsock import (
    close_quietly,
    open_peer_pidfd,
    read_peer_credentials,
    refuse_fds,
)
from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity

REQUEST_STALLS_MAX = 2
"""A client may take this many times `stall_s` to send one request."""

REQUESTS_FREE = 64 * 1024
REQUESTS_ACCOUNT = 24 * 1024 * 1024
REQUESTS_TOTAL = 64 * 1024 * 1024
"""Bytes of requests that no handler has begun with: always free to a connection, and the limits
of an account and of all accounts."""

PLACES_ACCOUNT, PLACES_TOTAL = 3, 8
"""Large requests, of at most 4 MiB each, that come in at the same time: limits of an account and of all."""

log = logging.getLogger(__name__)


class RelayDoor:
    """Accepts on the public gRPC socket and keeps the relays.

    Args:
        listener: stays the caller's.
        inner_path: the private socket that grpc listens on.
        peers: gets an entry for each connection, and reports which handlers begin.
        shares: counts the connections; more than it allows are refused.
        entry: what this door shares with the other one.
        stall_s: a connection with a request that takes twice as long is closed; 0 = never.
    """

    def __init__(
        self,
        listener: socket.socket,
        inner_path: str | Path,
        peers: PeerTable,
        shares: Shares,
        entry: Entry,
        stall_s: float = 0.0,
    ) -> None:
        """Nothing is accepted before `start`."""
        self._turns = entry.turns
        self._reception = entry.reception
        self._changed = entry.on_change
        self._request_s = REQUEST_STALLS_MAX * stall_s
        self.requests = Budget(free=REQUESTS_FREE, account=REQUESTS_ACCOUNT, total=REQUESTS_TOTAL)
        self._places = Places(account=PLACES_ACCOUNT, total=PLACES_TOTAL)
        self._refusals = Refusals()
        self._shares = shares
        self._inner_path = os.fspath(inner_path)
        self._peers = peers
        self._acceptor = Acceptor(listener, self._on_accept)
        self._listener = listener
        self._relays: dict[str, Relay] = {}
        peers.on_call = self._on_call
        peers.on_taken = self._on_taken
        peers.on_reading = self._on_reading
        self._empty = asyncio.Event()
        self.refused = 0
        """Connections that were not served, since the start."""

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._relays)

    async def start(self) -> None:
        """Accept from now on, in the running loop."""
        # A client that sends descriptors here has the wrong socket, and dropping them
        # could block the daemon.
        refuse_fds(self._listener)
        self._empty.set()
        self._acceptor.start()

    async def close(self, drain_s: float) -> None:
        """Accept no more, let connections end on their own, then close the rest.

        Args:
            drain_s: longest wait for them, seconds.
        """
        self._acceptor.stop()
        self._refusals.close()
        try:
            async with asyncio.timeout(drain_s):
                await self._empty.wait()
        except TimeoutError:
            log.info("relays_cut connections=%d", len(self._relays))
        for relay in list(self._relays.values()):
            relay.end()

    def _on_accept(self, client: socket.socket) -> bool:
        try:
            identity = self._identify(client)
        except IdentityMissing as error:
            return self._refuse(client, UNAUTHENTICATED, error.message)
        except QuotaFull as error:
            return self._refuse(client, RESOURCE_EXHAUSTED, error.message)
        except OSError:
            # Out of memory or the like; without an identity no call is possible.
            client.close()
            return False
        return self._relay(client, identity)

    def _refuse(self, client: socket.socket, status: int, message: str) -> bool:
        self.refused += 1
        self._refusals.refuse(client, status, message)
        return False

    def _identify(self, client: socket.socket) -> Identity:
        """Return the identity of whoever connected; raises QuotaFull if they have too many connections."""
        identity = self._reception.identify(*read_peer_credentials(client))
        self._reception.check_room(identity, client.fileno())
        self._shares.check(identity)
        return replace(identity, pidfd=open_peer_pidfd(client))

    def _relay(self, client: socket.socket, identity: Identity) -> bool:
        name = self._peers.add(identity)
        user = self._turns.join(identity.uid, identity.payer)
        calls = Calls(user, Purse(self.requests, identity.payer))
        try:
            relay = Relay(client, identity, name, calls, self._on_end, self._request_s)
        except OSError as error:
            log.warning('relay_failed error="%s"', error)
            self._peers.remove(name)
            self._turns.leave(user)
            client.close()
            if identity.pidfd >= 0:
                close_quietly(identity.pidfd)
            return False
        self._relays[name] = relay
        self._shares.add(identity)
        self._empty.clear()
        self._changed()
        relay.ticket = user.ask(lambda: self._dial(relay))
        if relay.ticket is None:
            self._dial(relay)
        return True

    def _dial(self, relay: Relay) -> None:
        """Connect to gRPC, now that it is the connection's turn."""
        if relay.has_hung_up():
            # Nothing needs to be read about the caller, and gRPC never learns of the connection.
            relay.end()
            return
        begin_s = time.thread_time()
        self._peers.describe(relay.name)
        relay.dial(self._inner_path)
        # Reading who the caller is takes as long as gRPC's part does.
        relay.calls.user.charge(time.thread_time() - begin_s)

    def _on_call(self, name: str) -> None:
        self._relays[name].calls.began()

    def _on_taken(self, name: str, size: int) -> None:
        if (relay := self._relays.get(name)) is not None:
            relay.calls.taken(size)

    def _on_reading(self, name: str) -> AbstractAsyncContextManager[None] | None:
        relay = self._relays.get(name)
        return None if relay is None else relay.calls.reading(self._places)

    def _on_end(self, relay: Relay) -> None:
        self._peers.remove(relay.name)
        del self._relays[relay.name]
        self._shares.remove(relay.identity)
        self._turns.leave(relay.calls.user)
        if not self._relays:
            self._empty.set()
        self._changed()
