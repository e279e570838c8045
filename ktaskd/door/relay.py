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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ktaskd.door.acceptor import Acceptor
from ktaskd.door.peers import PeerTable
from ktaskd.host.unixsock import close_quietly, open_peer_pidfd, read_peer_credentials, refuse_fds
from ktaskd.model.identity import Identity

BUFFER_BYTES = 64 * 1024
"""Most bytes that wait in one direction of one relay."""

DIAL_PAUSE_S = 0.02
DIALS_MAX = 250
"""Tries to reach the private socket while its queue is full: 5 s in all."""

_log = logging.getLogger(__name__)

# One loop runs all relays, and each is done with the buffer when it returns.
_BUFFER = memoryview(bytearray(BUFFER_BYTES))


class _Way:
    """One direction: reads nothing more while the other side is full."""

    __slots__ = ("_loop", "_on_broken", "_on_done", "_rest", "_sink", "_source", "done")

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        on_done: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._on_done = on_done
        self._on_broken = on_broken
        self._rest = b""
        self.done = False

    def start(self) -> None:
        self._loop.add_reader(self._source.fileno(), self._on_readable)

    def stop(self) -> None:
        self._loop.remove_reader(self._source.fileno())
        self._loop.remove_writer(self._sink.fileno())

    def _on_readable(self) -> None:
        try:
            n = self._source.recv_into(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._on_broken()
            return
        if not n:
            self._finish()
            return
        sent = self._send(_BUFFER[:n])
        if sent < n and not self._gone():
            self._rest = bytes(_BUFFER[sent:n])
            self._loop.remove_reader(self._source.fileno())
            self._loop.add_writer(self._sink.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        self._rest = self._rest[self._send(self._rest) :]
        if not self._rest and not self._gone():
            self._loop.remove_writer(self._sink.fileno())
            self.start()

    def _send(self, data: memoryview | bytes) -> int:
        try:
            return self._sink.send(data, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._on_broken()
            return 0

    def _gone(self) -> bool:
        return self._sink.fileno() < 0

    def _finish(self) -> None:
        """Pass the end of the stream on; the other direction may go on."""
        self._loop.remove_reader(self._source.fileno())
        self.done = True
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._on_broken()
            return
        self._on_done()


class _Relay:
    """One client's connection and the one dialled for it; owns both and the pidfd."""

    __slots__ = ("_client", "_dial_timer", "_inner", "_on_end", "_ways", "identity", "name")

    def __init__(
        self, client: socket.socket, identity: Identity, name: str, on_end: Callable[[_Relay], None]
    ) -> None:
        self._client = client
        self._inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inner.setblocking(False)
        self._dial_timer: asyncio.TimerHandle | None = None
        self._ways: list[_Way] = []
        self._on_end = on_end
        self.identity = identity
        self.name = name

    def dial(self, path: str, tries: int = DIALS_MAX) -> None:
        """Connect from a socket that is bound to the name; ends the relay if it cannot."""
        try:
            if not self._inner.getsockname():
                self._inner.bind(b"\0" + self.name.encode())
            self._inner.connect(path)
        except BlockingIOError:
            # The queue of the private socket is full. A unix socket does not
            # go on connecting by itself, as one of TCP would.
            self._dial_later(path, tries - 1)
        except OSError as error:
            _log.error("event=dial_failed path=%s error=%s", path, error)
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
        pairs = ((self._client, self._inner), (self._inner, self._client))
        self._ways = [_Way(source, sink, self._on_way_done, self.end) for source, sink in pairs]
        for way in self._ways:
            way.start()

    def _on_way_done(self) -> None:
        if all(way.done for way in self._ways):
            self.end()

    def end(self) -> None:
        """Close both ends at once. Repeating it does nothing."""
        if self._client.fileno() < 0:
            return
        if self._dial_timer is not None:
            self._dial_timer.cancel()
        for way in self._ways:
            way.stop()
        self._client.close()
        self._inner.close()
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
    ) -> None:
        """Hold them; nothing is accepted before start."""
        self._inner_path = os.fspath(inner_path)
        self._peers = peers
        self._describe = describe
        self._on_change = on_change
        self._acceptor = Acceptor(listener, self._on_accept)
        self._listener = listener
        self._relays: set[_Relay] = set()
        self._empty = asyncio.Event()
        self.per_uid = per_uid
        self.total = total
        self.refused = 0
        """Connections closed at once since the start."""

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
        try:
            async with asyncio.timeout(drain_s):
                await self._empty.wait()
        except TimeoutError:
            _log.info("event=relays_cut connections=%d", len(self._relays))
        for relay in list(self._relays):
            relay.end()

    def _on_accept(self, client: socket.socket) -> None:
        try:
            identity = self._identify(client)
        except OSError:
            # Out of memory or the like; without an identity there is no call.
            client.close()
            return
        if identity is None:
            self.refused += 1
            client.close()
            return
        self._relay(client, identity)

    def _identify(self, client: socket.socket) -> Identity | None:
        """Who connected; None if there are too many already."""
        pid, uid, gid = read_peer_credentials(client)
        if len(self._relays) >= self.total or self._peers.count(uid) >= self.per_uid:
            return None
        identity = Identity(uid=uid, gid=gid, pid=pid, pidfd=open_peer_pidfd(client))
        try:
            # Whatever describe says, who the caller is was said by the kernel.
            return replace(self._describe(identity), uid=uid, gid=gid, pid=pid, pidfd=identity.pidfd)
        except Exception:
            _log.exception("event=describe_failed pid=%d", pid)
            return identity

    def _relay(self, client: socket.socket, identity: Identity) -> None:
        name = self._peers.add(identity)
        try:
            relay = _Relay(client, identity, name, self._on_end)
        except OSError as error:
            _log.warning("event=relay_failed error=%s", error)
            self._peers.remove(name)
            client.close()
            if identity.pidfd >= 0:
                close_quietly(identity.pidfd)
            return
        self._relays.add(relay)
        self._empty.clear()
        self._changed()
        relay.dial(self._inner_path)

    def _on_end(self, relay: _Relay) -> None:
        self._peers.remove(relay.name)
        self._relays.discard(relay)
        if not self._relays:
            self._empty.set()
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()
