"""The keepers of all uids: started when wanted, given up when they hang.

Each uid has one of its own, up to a few of one account; its other uids share those.

The daemon keeps a copy of every connection that a keeper serves, so that it
can still answer when the keeper cannot. It never reads from it, and closes it
before the keeper closes its own: descriptors that nobody has taken out of a
connection are closed by whoever closes the connection last.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ktask.v1 import handoff

from ktaskd.door.admission.patience import Alarm
from ktaskd.door.admission.shares import RESERVE_PART
from ktaskd.door.handoff import wire
from ktaskd.door.handoff.burials import Burials, Grave
from ktaskd.door.handoff.handles import CloseFd, HeldSource, OnGone, ignore_gone
from ktaskd.door.handoff.link import Link
from ktaskd.door.handoff.openings import Openings
from ktaskd.door.handoff.wire import Frame
from ktaskd.host.sockets.unixsock import Fds, close_quietly, send
from ktaskd.model.errors import KeeperSilent, KtaskError, QuotaFull
from ktaskd.model.function import Access
from ktaskd.model.identity import Identity
from ktaskd.model.source import SourceFacts

SILENCE_S = 2.0
"""A keeper that is busy with one thing for longer is given up."""

LINGER_S = 10.0
"""A keeper that has nothing to do ends after this, so that the next one is not waited for."""

KEEPERS_MAX = 64

KEEPERS_PER_ACCOUNT = 8
"""More uids of one account share its keepers."""

STUCK_PER_UID_MAX = 3
"""Keepers of one uid that were killed and will not die; then the uid gets no more."""

STARTING_PER_ACCOUNT = 2
"""Keepers of one account that start at the same time. Each start is 50 ms of CPU time, so that further uids
of the account share these."""

log = logging.getLogger(__name__)


class Client(Protocol):
    """What is behind one connection, on the daemon's side."""

    def on_handed(self, number: int, facts: list[SourceFacts], fds: Fds) -> handoff.Reply:
        """Sound descriptors came; those not taken are closed after. Gives the reply."""

    def on_drop(self, number: int, handles: list[str]) -> handoff.Reply:
        """Handles were given back. Gives the reply."""

    def in_turn(self, go: Callable[[], None]) -> None:
        """Have `go` called when it is the user's turn, unless the connection is over before."""

    def on_end(self) -> None:
        """The connection is over. Told once."""


@dataclass(frozen=True, slots=True)
class _Served:
    """A connection, our copy of it, and who serves it."""

    sock: socket.socket
    client: Client
    link: Link


class Keepers:
    """One keeper process for each uid that needs one.

    Args:
        total: most keepers, those included that were killed and live on.
        admins: uids that have a keeper whatever others have; the daemon's own is one.
        silence_s, linger_s: as SILENCE_S and LINGER_S.
        on_gone, close: of the sources that open_path makes.
        on_change: called when a keeper came or went.
    """

    def __init__(
        self,
        *,
        total: int = KEEPERS_MAX,
        admins: frozenset[int] = frozenset(),
        silence_s: float = SILENCE_S,
        linger_s: float = LINGER_S,
        on_gone: OnGone = ignore_gone,
        close: CloseFd = close_quietly,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """Start with none."""
        self.total = total
        self.lost = 0
        """Keepers that were given up or died, since the start."""
        self._admins = admins | {os.geteuid()}
        self._silence_s = silence_s
        self._linger_s = linger_s
        self._on_change = on_change
        self._numbers = itertools.count(1)
        self._links: dict[int, Link] = {}
        self._dying: set[Link] = set()
        self._accounts: dict[Link, int] = {}
        self._served: dict[int, _Served] = {}
        self._openings = Openings(
            self._numbers,
            link=lambda: self._link_for(os.geteuid(), os.geteuid()),
            use=self._use,
            unuse=self._unuse,
            on_gone=on_gone,
            close=close,
        )
        self._uses: Counter[Link] = Counter()
        self._timers: dict[Link, Alarm | asyncio.TimerHandle] = {}
        self._burials = Burials(self._send_to_grave)
        self._reaped = asyncio.Event()
        self._closed = False

    # ---- for the door

    def pids(self) -> dict[int, int]:
        """Process id of the living keeper, by uid."""
        return {uid: link.pid for uid, link in self._links.items()}

    def serve(self, who: Identity, sock: socket.socket, client: Client) -> int:
        """Let the keeper of the caller serve this connection; owns `sock` if it returns.

        Returns:
            A number for hang_up.
        Raises:
            QuotaFull: there are as many keepers as may be.
            KeeperSilent: too many keepers of this uid hang, or none can be started.
        """
        copy = os.dup(sock.fileno())
        try:
            link = self._link_for(who.uid, who.payer)
        except KtaskError:
            close_quietly(copy)
            raise
        conn = next(self._numbers)
        self._served[conn] = _Served(sock, client, link)
        self._use(link)
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
        self._unuse(served.link)

    def refuse(self, uid: int, sock: socket.socket, error: KtaskError, *, account: int | None = None) -> None:
        """Tell a client why it is not served, and close; owns `sock`."""
        # It may still send its request, and then read this: the end comes a moment later.
        _tell(sock, 0, error, how=socket.SHUT_WR)
        self._burials.collect((uid, uid if account is None else account), sock.detach())

    async def open_path(self, path: str, access: Access) -> HeldSource:
        """Open `path` with the daemon's rights, in the keeper of its own uid.

        Returns:
            A source with one reference, the caller's.
        Raises:
            PathNotFound, NotAllowed, FdUnsuitable, SourceInvalid
            KeeperSilent: looking at the path did not end in time.
            QuotaFull: too many paths wait to be opened.
        """
        return await self._openings.open(path, access)

    async def close(self, grace_s: float = SILENCE_S) -> None:
        """End all keepers; kill those that have not ended after `grace_s`.

        One that does not even die then is left behind.
        """
        self._burials.flush()
        self._closed = True
        for conn in list(self._served):
            self.hang_up(conn)
        for link in list(self._links.values()):
            self._end(link)
        await self._wait_reaped(grace_s)
        for link in self._dying:
            link.kill()
        await self._wait_reaped(grace_s)
        for timer in self._timers.values():
            timer.cancel()
        for link in self._dying:
            link.forget()
        self._burials.close()

    async def _wait_reaped(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while self._dying:
                    self._reaped.clear()
                    await self._reaped.wait()
        except TimeoutError:
            log.warning("keepers_linger pids=%s", [link.pid for link in self._dying])

    # ---- processes

    def _link_for(self, uid: int, account: int) -> Link:
        link = self._links.get(uid)
        if link is not None:
            return link
        if self._closed:
            raise KeeperSilent("the daemon is closing")
        stuck = sum(link.uid == uid for link in self._dying)
        if stuck >= STUCK_PER_UID_MAX:
            raise KeeperSilent(
                f"uid {uid}: {stuck} keepers hang in what it handed over before, no more are started"
            )
        if not self._has_room(uid, account):
            return self._shared(uid, account)
        try:
            link = self._links[uid] = Link(uid, self, silence_s=self._silence_s)
        except OSError as error:
            raise KeeperSilent(f"keeper of uid {uid}: cannot be started: {error}") from error
        self._accounts[link] = account
        self._changed()
        return link

    def _has_room(self, uid: int, account: int) -> bool:
        """Whether a uid may have a keeper of its own; ends one that has nothing to do if need be."""
        taken = len(self._links) + len(self._dying)
        if uid not in self._admins:
            mine = sum(one == account for one in self._accounts.values())
            free = self.total - self.total // RESERVE_PART - (taken - mine)
            if mine and mine >= min(KEEPERS_PER_ACCOUNT, free // 2):
                return False
            if self._starting(account) >= STARTING_PER_ACCOUNT:
                return False
        return taken < self.total or self._end_resting()

    def _starting(self, account: int) -> int:
        return sum(self._accounts[link] == account and not link.ready for link in self._links.values())

    def _shared(self, uid: int, account: int) -> Link:
        """The keeper of the account that has least to do."""
        living = [link for link in self._links.values() if self._accounts[link] == account]
        if not living:
            taken = len(self._links) + len(self._dying)
            raise QuotaFull(
                f"keepers: uid {uid} gets none, {taken} of {self.total} are busy;"
                " try again when some have ended"
            )
        return min(living, key=lambda link: self._uses[link])

    def _end_resting(self) -> bool:
        """End one keeper that has nothing to do, to make room."""
        for link in self._links.values():
            if link in self._timers and not link.busy:
                self._end(link)
                return True
        return False

    def _use(self, link: Link) -> None:
        """A keeper got something to do, so it does not end."""
        self._uses[link] += 1
        self._stop_timer(link)

    def _unuse(self, link: Link) -> None:
        """A keeper has less to do; with nothing at all it ends after a while."""
        self._uses[link] -= 1
        if not self._uses[link]:
            del self._uses[link]
            if not link.lost:
                self._rest(link)

    def _rest(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        self._timers[link] = loop.call_later(self._linger_s, self._on_rested, link)

    def _stop_timer(self, link: Link) -> None:
        if (timer := self._timers.pop(link, None)) is not None:
            timer.cancel()

    def _on_rested(self, link: Link) -> None:
        if link.busy or link.unsent:
            self._rest(link)
        else:
            self._end(link)

    def _end(self, link: Link) -> None:
        self._leave(link)
        link.end()
        self._timers[link] = Alarm(self._silence_s, link.kill)

    def _leave(self, link: Link) -> None:
        """From now on nothing new goes to this keeper."""
        del self._links[link.uid]
        self._dying.add(link)
        self._stop_timer(link)
        self._changed()

    def on_lost(self, link: Link, why: str) -> None:
        """Answer for a keeper that cannot any more; its handles end."""
        self.lost += 1
        self._leave(link)
        culprit_conn, culprit_number = link.culprit
        what = f"keeper of uid {link.uid}: {why}"
        error = KeeperSilent(f"{what}; the handles of this connection are gone, hand the files over again")
        for conn, served in [item for item in self._served.items() if item[1].link is link]:
            del self._served[conn]
            self._unuse(link)
            _tell(served.sock, culprit_number if conn == culprit_conn else 0, error)
            served.client.on_end()
            self._burials.bury(self._grave_of(link), Fds([served.sock.detach()]))
        self._openings.on_lost(link, KeeperSilent(f"{what}, so the path was not opened"))
        while link.unsent:
            frame, fds = link.unsent.popleft()
            if frame.kind == wire.BURY:
                self._burials.bury(self._grave_of(link), Fds(fds.take()))
            fds.close()

    def on_reaped(self, link: Link) -> None:
        """Forget a dead keeper; there may be room for another now."""
        self._dying.discard(link)
        self._accounts.pop(link, None)
        self._stop_timer(link)
        self._reaped.set()
        self._burials.try_again()

    def _grave_of(self, link: Link) -> Grave:
        return link.uid, self._accounts[link]

    def _send_to_grave(self, grave: Grave, fds: Fds) -> bool:
        try:
            link = self._link_for(*grave)
        except KtaskError:
            return False
        self._use(link)
        link.send(Frame(wire.BURY), fds)
        self._unuse(link)
        return True

    # ---- messages

    def on_frame(self, link: Link, frame: Frame, fds: Fds, complete: bool) -> None:
        """Act on what a keeper says."""
        if frame.kind == wire.OPENED:
            self._openings.on_opened(frame, fds, complete)
        elif frame.kind == wire.UNOPENED:
            self._openings.on_unopened(frame)
        elif frame.kind == wire.ENDED:
            self.hang_up(frame.conn)
        elif (served := self._served.get(frame.conn)) is not None:
            reply = handoff.encode_reply(_reply_to(served.client, frame, fds, complete))
            # The keeper reads nothing more of the connection before it has this.
            served.client.in_turn(lambda: link.send(Frame(wire.ANSWER, frame.conn, frame.number, reply)))

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()


def _reply_to(client: Client, frame: Frame, fds: Fds, complete: bool) -> handoff.Reply:
    if frame.kind == wire.DROP:
        return client.on_drop(frame.number, wire.unpack_json(frame.body))
    facts = wire.unpack_facts(frame.body)
    if not complete or len(fds) != len(facts):
        return handoff.Refused(frame.number, QuotaFull.reason, "the daemon has no descriptors left")
    return client.on_handed(frame.number, facts, fds)


def _tell(sock: socket.socket, number: int, error: KtaskError, how: int = socket.SHUT_RDWR) -> None:
    """Send an error if that is possible at once, and end the conversation."""
    reply = handoff.encode_reply(handoff.Refused(number, error.reason, error.message))
    try:
        send(sock, reply, flags=socket.MSG_DONTWAIT)
        sock.shutdown(how)
    except OSError:
        # Gone already, or it does not read; either way there is no more to do.
        return
