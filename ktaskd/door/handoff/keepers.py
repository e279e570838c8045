"""Work for the keepers: serving connections, opening paths, closing connections that nobody serves.

The daemon keeps a copy of every connection that a keeper serves, so that it
can still answer when the keeper cannot. It never reads from it, and closes it
before the keeper closes its own: when a connection still holds descriptors that
nobody has taken out, the last process to close it closes those descriptors too.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ktask.v1 import handoff

from ktaskd.door.handoff import wire
from ktaskd.door.handoff.burials import Burials, Grave
from ktaskd.door.handoff.handles import CloseFd, HeldSource, OnGone, ignore_gone
from ktaskd.door.handoff.keeperpool import SILENCE_S, KeeperLimits, KeeperPool
from ktaskd.door.handoff.link import Link
from ktaskd.door.handoff.openings import Openings
from ktaskd.door.handoff.wire import Frame
from ktaskd.host.sockets.unixsock import Fds, close_quietly, send
from ktaskd.model.errors import KeeperSilent, KtaskError, QuotaFull
from ktaskd.model.function import Access
from ktaskd.model.identity import Identity
from ktaskd.model.source import SourceFacts


class Client(Protocol):
    """One connection, as the keepers see the daemon's side of it."""

    def on_handed(self, number: int, facts: list[SourceFacts], fds: Fds) -> handoff.Reply:
        """Take vetted descriptors and return the reply. Those not taken are closed afterwards."""

    def on_drop(self, number: int, handles: list[str]) -> handoff.Reply:
        """Drop handles that the client gave back, and return the reply."""

    def in_turn(self, go: Callable[[], None]) -> None:
        """Call `go` when it is the user's turn, unless the connection ends before that."""

    def on_end(self) -> None:
        """Clean up after the end of the connection. Called once."""


@dataclass(frozen=True, slots=True)
class _Served:
    """A connection: the daemon's copy of its socket, its client, and the keeper that serves it."""

    sock: socket.socket
    client: Client
    link: Link


class Keepers:
    """Passes work to the keepers, and acts on their messages.

    Args:
        limits: how many keepers there may be, and their patience.
        on_gone, close: of the sources that open_path makes.
    """

    def __init__(
        self,
        limits: KeeperLimits | None = None,
        *,
        on_gone: OnGone = ignore_gone,
        close: CloseFd = close_quietly,
    ) -> None:
        """Start with no keeper."""
        self.lost = 0
        """Keepers that were given up or died, since the start."""
        self._numbers = itertools.count(1)
        self._pool = KeeperPool(self, limits or KeeperLimits())
        self._served: dict[int, _Served] = {}
        self._openings = Openings(self._numbers, self._pool, on_gone=on_gone, close=close)
        self._burials = Burials(self._send_to_grave)

    # ---- for the door

    def pids(self) -> dict[int, int]:
        """Return the process ids of the living keepers, by uid."""
        return {uid: link.pid for uid, link in self._pool.links.items()}

    def serve(self, who: Identity, sock: socket.socket, client: Client) -> int:
        """Have the caller's keeper serve this connection; owns `sock` if it returns.

        Returns:
            A number for hang_up.
        Raises:
            QuotaFull: all keepers are in use, and the account has none.
            KeeperSilent: too many keepers of this uid hang, or none can be started.
        """
        copy = os.dup(sock.fileno())
        try:
            link = self._pool.get(who.uid, who.payer)
        except KtaskError:
            close_quietly(copy)
            raise
        conn = next(self._numbers)
        self._served[conn] = _Served(sock, client, link)
        self._pool.use(link)
        link.send(Frame(wire.SERVE, conn), Fds([copy]))
        return conn

    def hang_up(self, conn: int) -> None:
        """End a connection. Repeating it does nothing."""
        served = self._served.pop(conn, None)
        if served is None:
            return
        served.client.on_end()
        served.sock.close()
        served.link.send(Frame(wire.CLOSE, conn))
        self._pool.unuse(served.link)

    def refuse(self, uid: int, sock: socket.socket, error: KtaskError, *, account: int | None = None) -> None:
        """Send a client the reason why it is not served, and close; owns `sock`."""
        # The client may still send its request before it reads this, so the socket is closed a moment later.
        _send_error(sock, 0, error, how=socket.SHUT_WR)
        self._burials.collect((uid, uid if account is None else account), sock.detach())

    async def open_path(self, path: str, access: Access) -> HeldSource:
        """Open `path` with the daemon's rights, in the keeper of the daemon's own uid.

        Returns:
            A source with one reference, the caller's.
        Raises:
            PathNotFound, NotAllowed, FdUnsuitable, SourceInvalid
            KeeperSilent: looking at the path did not end in time.
            QuotaFull: too many paths wait to be opened.
        """
        return await self._openings.open(path, access)

    async def close(self, grace_s: float = SILENCE_S) -> None:
        """End all connections and keepers; kill keepers that have not ended after `grace_s`."""
        self._burials.flush()
        for conn in list(self._served):
            self.hang_up(conn)
        await self._pool.close(grace_s)
        self._burials.close()

    # ---- the end of a keeper

    def on_lost(self, link: Link, why: str) -> None:
        """Answer in place of a keeper that hangs or died; its handles end."""
        self.lost += 1
        self._pool.leave(link)
        culprit_conn, culprit_number = link.culprit
        what = f"keeper of uid {link.uid}: {why}"
        error = KeeperSilent(f"{what}; the handles of this connection are gone, so hand the files over again")
        for conn, served in [item for item in self._served.items() if item[1].link is link]:
            del self._served[conn]
            self._pool.unuse(link)
            _send_error(served.sock, culprit_number if conn == culprit_conn else 0, error)
            served.client.on_end()
            self._burials.bury(self._grave_of(link), Fds([served.sock.detach()]))
        self._openings.on_lost(link, KeeperSilent(f"{what}, so the path was not opened"))
        while link.unsent:
            frame, fds = link.unsent.popleft()
            if frame.kind == wire.BURY:
                self._burials.bury(self._grave_of(link), Fds(fds.take()))
            fds.close()

    def on_reaped(self, link: Link) -> None:
        """Forget a dead keeper, and use the room for connections that wait to be closed."""
        self._pool.reaped(link)
        self._burials.try_again()

    def _grave_of(self, link: Link) -> Grave:
        return link.uid, self._pool.account_of(link)

    def _send_to_grave(self, grave: Grave, fds: Fds) -> bool:
        try:
            link = self._pool.get(*grave)
        except KtaskError:
            return False
        self._pool.use(link)
        link.send(Frame(wire.BURY), fds)
        self._pool.unuse(link)
        return True

    # ---- messages

    def on_frame(self, link: Link, frame: Frame, fds: Fds, complete: bool) -> None:
        """Act on a message of a keeper."""
        if frame.kind == wire.OPENED:
            self._openings.on_opened(frame, fds, complete)
        elif frame.kind == wire.UNOPENED:
            self._openings.on_unopened(frame)
        elif frame.kind == wire.ENDED:
            self.hang_up(frame.conn)
        elif (served := self._served.get(frame.conn)) is not None:
            reply = handoff.encode_reply(_reply_to(served.client, frame, fds, complete))
            # The keeper reads nothing more from the connection before it has this answer.
            served.client.in_turn(lambda: link.send(Frame(wire.ANSWER, frame.conn, frame.number, reply)))


def _reply_to(client: Client, frame: Frame, fds: Fds, complete: bool) -> handoff.Reply:
    if frame.kind == wire.DROP:
        return client.on_drop(frame.number, wire.unpack_json(frame.body))
    facts = wire.unpack_facts(frame.body)
    if not complete or len(fds) != len(facts):
        return handoff.Refused(frame.number, QuotaFull.reason, "the daemon has no descriptors left")
    return client.on_handed(frame.number, facts, fds)


def _send_error(sock: socket.socket, number: int, error: KtaskError, how: int = socket.SHUT_RDWR) -> None:
    """Send an error if the socket takes it at once, and shut the socket down."""
    reply = handoff.encode_reply(handoff.Refused(number, error.reason, error.message))
    try:
        send(sock, reply, flags=socket.MSG_DONTWAIT)
        sock.shutdown(how)
    except OSError:
        # The client has gone or does not read; either way nothing more can be done.
        return
