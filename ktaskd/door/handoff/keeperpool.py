"""Which keeper processes there are: started on demand, shared within an account, ended when idle.

Each uid has one of its own, up to a few for one account; its other uids share those.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from dataclasses import dataclass

from ktaskd.door.admission.patience import Alarm
from ktaskd.door.admission.shares import RESERVE_PART
from ktaskd.door.handoff.link import Link, LinkOwner
from ktaskd.model.errors import KeeperSilent, QuotaFull

SILENCE_S = 2.0
"""A keeper that is busy with one thing for longer is given up."""

LINGER_S = 10.0
"""How long an idle keeper is kept, so that the next connection need not wait for a start."""

KEEPERS_MAX = 64

KEEPERS_PER_ACCOUNT = 8
"""Further uids of one account share its keepers."""

STUCK_PER_UID_MAX = 3
"""Keepers of one uid that were killed and do not die; then the uid gets no more."""

STARTING_PER_ACCOUNT = 2
"""Keepers of one account that start at the same time. Each start takes 50 ms of CPU time, so further uids
of the account share these."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeeperLimits:
    """How many keepers there may be, and how long each may be silent or idle.

    Args:
        total: most keepers, including those that were killed and have not died.
        admins: uids that get a keeper however many others have one; the daemon's own is one.
        silence_s, linger_s: as SILENCE_S and LINGER_S.
    """

    total: int = KEEPERS_MAX
    admins: frozenset[int] = frozenset()
    silence_s: float = SILENCE_S
    linger_s: float = LINGER_S


class KeeperPool:
    """The keeper processes.

    Args:
        owner: gets the messages of all keepers, and learns when one is lost or dead. It then
            calls `leave` or `reaped`.
    """

    def __init__(self, owner: LinkOwner, limits: KeeperLimits) -> None:
        """Start with none."""
        self._owner = owner
        self._limits = limits
        self._admins = limits.admins | {os.geteuid()}
        self.links: dict[int, Link] = {}
        """Keepers that take new work, by uid."""
        self.dying: set[Link] = set()
        """Keepers that take no new work and are not dead."""
        self._accounts: dict[Link, int] = {}
        self._uses: Counter[Link] = Counter()
        self._timers: dict[Link, Alarm | asyncio.TimerHandle] = {}
        self._reaped = asyncio.Event()
        self._closed = False

    def account_of(self, link: Link) -> int:
        """Return the account that pays for a keeper that is not reaped yet."""
        return self._accounts[link]

    def get(self, uid: int, account: int) -> Link:
        """Return a keeper for a uid: its own, a new one, or one of its account.

        Raises:
            QuotaFull: all keepers are in use, and the account has none.
            KeeperSilent: too many keepers of this uid hang, or none can be started.
        """
        link = self.links.get(uid)
        if link is not None:
            return link
        if self._closed:
            raise KeeperSilent("the daemon is closing")
        stuck = sum(link.uid == uid for link in self.dying)
        if stuck >= STUCK_PER_UID_MAX:
            raise KeeperSilent(
                f"uid {uid}: {stuck} keepers hang on files that it handed over, so no more are started"
            )
        if not self._has_room(uid, account):
            return self._shared(uid, account)
        try:
            link = self.links[uid] = Link(uid, self._owner, silence_s=self._limits.silence_s)
        except OSError as error:
            raise KeeperSilent(f"keeper of uid {uid}: cannot be started: {error}") from error
        self._accounts[link] = account
        return link

    def _has_room(self, uid: int, account: int) -> bool:
        """Whether a uid may have a keeper of its own. Ends an idle keeper if that makes room."""
        taken, total = len(self.links) + len(self.dying), self._limits.total
        if uid not in self._admins:
            mine = sum(one == account for one in self._accounts.values())
            free = total - total // RESERVE_PART - (taken - mine)
            if mine and mine >= min(KEEPERS_PER_ACCOUNT, free // 2):
                return False
            if self._starting(account) >= STARTING_PER_ACCOUNT:
                return False
        return taken < total or self._end_idle()

    def _starting(self, account: int) -> int:
        return sum(self._accounts[link] == account and not link.ready for link in self.links.values())

    def _shared(self, uid: int, account: int) -> Link:
        """Return the account's keeper that has least to do."""
        living = [link for link in self.links.values() if self._accounts[link] == account]
        if not living:
            taken = len(self.links) + len(self.dying)
            raise QuotaFull(
                f"keepers: {taken} of {self._limits.total} are busy and uid {uid} has none;"
                " try again when some have ended"
            )
        return min(living, key=lambda link: self._uses[link])

    def _end_idle(self) -> bool:
        """End one keeper that has nothing to do, to make room; False if all are busy."""
        for link in self.links.values():
            if link in self._timers and not link.busy:
                self._end(link)
                return True
        return False

    # ---- work

    def use(self, link: Link) -> None:
        """Note that a keeper has one thing more to do, so that it does not end."""
        self._uses[link] += 1
        self._stop_timer(link)

    def unuse(self, link: Link) -> None:
        """Note that a keeper has one thing less to do; one with nothing to do ends after a while."""
        self._uses[link] -= 1
        if not self._uses[link]:
            del self._uses[link]
            if not link.lost:
                self._linger(link)

    def _linger(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        self._timers[link] = loop.call_later(self._limits.linger_s, self._on_lingered, link)

    def _stop_timer(self, link: Link) -> None:
        if (timer := self._timers.pop(link, None)) is not None:
            timer.cancel()

    def _on_lingered(self, link: Link) -> None:
        if link.busy or link.unsent:
            self._linger(link)
        else:
            self._end(link)

    # ---- the end

    def _end(self, link: Link) -> None:
        self.leave(link)
        link.end()
        self._timers[link] = Alarm(self._limits.silence_s, link.kill)

    def leave(self, link: Link) -> None:
        """Give this keeper no new work from now on."""
        del self.links[link.uid]
        self.dying.add(link)
        self._stop_timer(link)

    def reaped(self, link: Link) -> None:
        """Forget a dead keeper, which makes room for another."""
        self.dying.discard(link)
        self._accounts.pop(link, None)
        self._stop_timer(link)
        self._reaped.set()

    async def close(self, grace_s: float) -> None:
        """End all keepers and start no more. Kill those that have not ended after `grace_s`.

        A keeper that does not die even then is left behind.
        """
        self._closed = True
        for link in list(self.links.values()):
            self._end(link)
        await self._wait_reaped(grace_s)
        for link in self.dying:
            link.kill()
        await self._wait_reaped(grace_s)
        for timer in self._timers.values():
            timer.cancel()
        for link in self.dying:
            link.forget()

    async def _wait_reaped(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while self.dying:
                    self._reaped.clear()
                    await self._reaped.wait()
        except TimeoutError:
            log.warning("keepers_linger pids=%s", [link.pid for link in self.dying])
