"""The public gRPC socket: learns who connects, and relays to the private one.

grpc neither reads SO_PEERCRED nor takes a socket from elsewhere. But it shows
a servicer the name that the peer's socket is bound to, so each relay dials
from a socket with a name of its own, and the name stands for the identity.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from ktaskd.door.admission.ledger import Ledger, Purse
from ktaskd.door.admission.places import Places
from ktaskd.door.admission.prices import CONNECTION_COST_S
from ktaskd.door.admission.shares import Shares
from ktaskd.door.admission.turns import Ticket, Turns
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.callers.reception import Reception
from ktaskd.door.relay.calls import Calls
from ktaskd.door.relay.frames import PREFACE, Frames
from ktaskd.door.relay.pump import Way, WayOut
from ktaskd.door.relay.refusals import RESOURCE_EXHAUSTED, UNAUTHENTICATED, Refusals
from ktaskd.door.relay.upstream import WayIn
from ktaskd.door.sockets.acceptor import Acceptor
from ktaskd.host.sockets.unixsock import (
    close_quietly,
    has_hung_up,
    open_peer_pidfd,
    read_peer_credentials,
    refuse_fds,
)
from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity

DIAL_PAUSE_S = 0.02
DIALS_MAX = 250
"""Tries to reach the private socket while its queue is full: 5 s in all."""

HALF_MAX = 2
"""A request may take so many times as long as a reader may stand still."""

REQUESTS_FREE = 64 * 1024
REQUESTS_ACCOUNT = 24 * 1024 * 1024
REQUESTS_TOTAL = 64 * 1024 * 1024
"""Bytes of requests that no handler has begun with: of a connection always, of an account, of all."""

PLACES_ACCOUNT, PLACES_TOTAL = 3, 8
"""Large requests that come in at one time, each of 4 MiB at most: of an account, of all."""

log = logging.getLogger(__name__)


class _Relay:
    """One client's connection and the one dialled for it; owns both and the pidfd."""

    __slots__ = (
        "_client",
        "_dial_timer",
        "_half_s",
        "_inner",
        "_on_end",
        "_ways",
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
        on_end: Callable[[_Relay], None],
        half_s: float,
    ) -> None:
        self._client = client
        self._half_s = half_s
        self._inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inner.setblocking(False)
        self._dial_timer: asyncio.TimerHandle | None = None
        self._ways: list[Way] = []
        self._on_end = on_end
        self.calls = calls
        self.identity = identity
        self.name = name
        self.ticket: Ticket | None = None
        """While it waits to be dialled."""

    def has_hung_up(self) -> bool:
        """Whether the client has gone, so that nothing it has sent matters."""
        return has_hung_up(self._client)

    def dial(self, path: str, tries: int = DIALS_MAX) -> None:
        """Connect from a socket that is bound to the name; ends the relay if it cannot."""
        self.ticket = None
        self.calls.user.charge(CONNECTION_COST_S)
        try:
            if not self._inner.getsockname():
                self._inner.bind(b"\0" + self.name.encode())
            self._inner.connect(path)
        except BlockingIOError:
            # The queue of the private socket is full. A unix socket does not
            # go on connecting by itself, as one of TCP would.
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
        self._ways = [
            WayIn(self._half_s, calls, client, inner, Frames(PREFACE), self._on_client_done, self.end),
            WayOut(calls, inner, client, Frames(), self.end, self.end),
        ]
        for way in self._ways:
            way.start()

    def _on_client_done(self) -> None:
        """Answers may still come. When gRPC has ended its side nothing more can: it closes both at once."""

    def end(self) -> None:
        """Close both ends at once. Repeating it does nothing."""
        if self._client.fileno() < 0:
            return
        for waiting in (self._dial_timer, self.ticket):
            if waiting is not None:
                waiting.cancel()
        for way in self._ways:
            way.stop()
        self._client.close()
        self._inner.close()
        self.calls.end_all()
        self._on_end(self)
        if self.identity.pidfd >= 0:
            close_quietly(self.identity.pidfd)


def _as_it_is(identity: Identity) -> Identity:
    return identity


class RelayDoor:
    """Accepts on the public gRPC socket and keeps the relays.

    Args:
        listener: stays the caller's.
        inner_path: the private socket that grpc listens on.
        per_uid, total: most connections at one time; more are closed at once.
        describe: fills in what more is to be known of a caller; its failure
            costs only that.
        on_change: called whenever a connection came or went.
        turns: whose connections and calls come in when; shared with other doors.
        reception: who it is that connects.
        stall_s: a connection with a request that takes twice as long is cut; 0 = never.
    """

    def __init__(
        self,
        listener: socket.socket,
        inner_path: str | Path,
        peers: PeerTable,
        *,
        per_uid: int,
        total: int,
        describe: Callable[[Identity], Identity] = _as_it_is,
        on_change: Callable[[], None] | None = None,
        turns: Turns | None = None,
        reception: Reception | None = None,
        stall_s: float = 0.0,
    ) -> None:
        """Hold them; nothing is accepted before start."""
        self._turns = turns or Turns()
        self._reception = reception or Reception()
        self._half_s = HALF_MAX * stall_s
        self.requests = Ledger(free=REQUESTS_FREE, account=REQUESTS_ACCOUNT, total=REQUESTS_TOTAL)
        self._places = Places(account=PLACES_ACCOUNT, total=PLACES_TOTAL)
        self._refusals = Refusals()
        self._shares = Shares("connections", total=total, per_uid=per_uid, admins=self._reception.admins)
        self._inner_path = os.fspath(inner_path)
        self._peers = peers
        self._describe = describe
        self._on_change = on_change
        self._acceptor = Acceptor(listener, self._on_accept)
        self._listener = listener
        self._relays: dict[str, _Relay] = {}
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
        # Who sends descriptors here is at the wrong socket, and dropping them
        # could hang the daemon.
        refuse_fds(self._listener)
        self._empty.set()
        self._acceptor.start()

    async def close(self, drain_s: float) -> None:
        """Accept no more, let connections end by themselves, then cut the rest.

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
            # Out of memory or the like; without an identity there is no call.
            client.close()
            return False
        return self._relay(client, identity)

    def _refuse(self, client: socket.socket, status: int, message: str) -> bool:
        self.refused += 1
        self._refusals.refuse(client, status, message)
        return False

    def _identify(self, client: socket.socket) -> Identity:
        """Who connected; raises QuotaFull if there are too many already."""
        identity = self._reception.identify(*read_peer_credentials(client))
        self._reception.check_room(identity, client.fileno())
        self._shares.check(identity)
        return replace(identity, pidfd=open_peer_pidfd(client))

    def _relay(self, client: socket.socket, identity: Identity) -> bool:
        name = self._peers.add(identity)
        user = self._turns.join(identity.uid, identity.payer)
        calls = Calls(user, Purse(self.requests, identity.payer))
        try:
            relay = _Relay(client, identity, name, calls, self._on_end, self._half_s)
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

    def _dial(self, relay: _Relay) -> None:
        """It is the connection's turn."""
        if relay.has_hung_up():
            # Nothing needs to be read of the caller, and gRPC never learns of it.
            relay.end()
            return
        begin_s = time.thread_time()
        self._peers.describe(relay.name, self._described(relay.identity))
        relay.dial(self._inner_path)
        # To read who the caller is takes as long as gRPC does.
        relay.calls.user.charge(time.thread_time() - begin_s)

    def _described(self, identity: Identity) -> Identity:
        uid, gid, pid, pidfd = identity.uid, identity.gid, identity.pid, identity.pidfd
        try:
            # Whatever describe says, who the caller is was said by the kernel.
            described = self._describe(identity)
            return replace(described, uid=uid, gid=gid, pid=pid, pidfd=pidfd, account=identity.account)
        except Exception:
            log.exception("describe_failed pid=%d", pid)
            return identity

    def _on_call(self, name: str) -> None:
        self._relays[name].calls.began()

    def _on_taken(self, name: str, size: int) -> None:
        if (relay := self._relays.get(name)) is not None:
            relay.calls.taken(size)

    def _on_reading(self, name: str) -> AbstractAsyncContextManager[None] | None:
        relay = self._relays.get(name)
        return None if relay is None else relay.calls.reading(self._places)

    def _on_end(self, relay: _Relay) -> None:
        self._peers.remove(relay.name)
        del self._relays[relay.name]
        self._shares.remove(relay.identity)
        self._turns.leave(relay.calls.user)
        if not self._relays:
            self._empty.set()
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()
