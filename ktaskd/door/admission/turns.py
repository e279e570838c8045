"""Gives turns at the daemon's one loop by what users have used, not by what they have sent.

All work of the loop for a client is charged to the client's user and account, in
seconds: the time measured in our own callbacks, and an estimate for the work
of gRPC's code, which cannot be measured. There are two lanes.

* A user that does one modest thing after the other is *light*, and never waits
  in a queue, as long as all light users of its account leave a third of the loop.
* Everything else waits in its account's queue. That lane has a third of the
  loop while others are present who would notice, and nearly all of it otherwise.
  In the queue the user that has used least is next.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from itertools import takewhile

from ktaskd.door.admission.account import Account
from ktaskd.door.admission.budget import Budget
from ktaskd.door.admission.prices import LOOK_S, THERE_S
from ktaskd.door.admission.user import Ticket as Ticket
from ktaskd.door.admission.user import User as User

ANSWERS_FREE = 1024 * 1024
ANSWERS_ACCOUNT = 16 * 1024 * 1024
ANSWERS_TOTAL = 48 * 1024 * 1024
"""Bytes of answers that are not read yet: always free to a uid, and the limits of an account and of all."""


class Turns:
    """All accounts that have connections.

    Args:
        now: returns seconds on the loop's clock.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Start without users."""
        self.now = now or asyncio.get_running_loop().time
        self.answers = Budget(free=ANSWERS_FREE, account=ANSWERS_ACCOUNT, total=ANSWERS_TOTAL)
        self.waiting: set[Account] = set()
        """Accounts in which something waits."""
        self._accounts: dict[int, Account] = {}
        self._recent: dict[User, None] = {}
        """All users, ordered by their last use."""
        self._quiet: list[User] = []
        self._look_at_s = -math.inf
        self._sweep_at = 16

    def join(self, uid: int, account: int | None = None) -> User:
        """Return the user of a uid, and count one more connection until `leave`.

        Args:
            account: the account that pays; None = the uid itself.
        """
        user = self.find(uid, account)
        user.members += 1
        return user

    def find(self, uid: int, account: int | None = None) -> User:
        """Return the user of a uid, without counting a connection."""
        number = uid if account is None else account
        found = self._accounts.get(number)
        user = found.users.get(uid) if found is not None else None
        if user is None:
            self._sweep()
            found = self._accounts.setdefault(number, Account(self, number))
            user = found.users[uid] = User(found, uid)
            self._recent[user] = None
        return user

    def leave(self, user: User) -> None:
        """Note the end of a connection. The account is remembered while it has a debt."""
        user.members -= 1

    def _sweep(self) -> None:
        """From time to time, forget users and accounts without connections and debts."""
        if len(self._recent) >= self._sweep_at:
            for user in [user for user in self._recent if not (user.members or user)]:
                del self._recent[user], user.account.users[user.uid]
            for number in [number for number, one in self._accounts.items() if one.idle]:
                del self._accounts[number]
            self._sweep_at = max(2 * len(self._recent), 16)

    def note(self, user: User) -> None:
        """Note that the user is present now."""
        with contextlib.suppress(KeyError):  # swept in the meantime
            del self._recent[user]
            self._recent[user] = None

    def is_noticed(self, user: User, now_s: float) -> bool:
        """Whether another user is present that does not wait in a queue itself."""
        if now_s >= self._look_at_s:
            recent = takewhile(lambda one: one.seen_s >= now_s - THERE_S, reversed(self._recent))
            self._quiet = [one for one in recent if not one][:2]
            self._look_at_s = now_s + LOOK_S
        quiet = self._quiet
        return len(quiet) > 1 or (len(quiet) == 1 and quiet[0] is not user)
