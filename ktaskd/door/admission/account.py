"""The queue of one account: its users wait here, and the one that has used least is next."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Protocol

from ktaskd.door.admission.meter import Meter
from ktaskd.door.admission.prices import (
    GRACE_S,
    LAG_MAX_S,
    LAG_S,
    TICK_S,
    TURN_COST_S,
    UNBEGUN_MAX,
    UNBEGUN_S,
)
from ktaskd.door.admission.user import Others, User


class Accounts(Others, Protocol):
    """All accounts, as one of them sees them."""

    @property
    def waiting(self) -> set[Account]:
        """Accounts in which something waits."""


class Account:
    """The users that one person pays for, and the queue in which they wait. One turn at a time."""

    __slots__ = (
        "_armed_cpu_s",
        "_let_in_s",
        "_timer",
        "light",
        "number",
        "pace",
        "turns",
        "unbegun",
        "users",
        "virtual_s",
        "waiting",
    )

    def __init__(self, turns: Accounts, number: int) -> None:
        """Start without users."""
        self.turns = turns
        self.number = number
        self.pace = Meter()
        self.light = Meter()
        self.users: dict[int, User] = {}
        self.waiting: dict[User, None] = {}
        """Users with something that waits."""
        self.virtual_s = 0.0
        """Use, when it was served, of the user that was served last."""
        self.unbegun = 0
        """Admitted calls that no handler has begun with, as far as is known."""
        self._let_in_s = -math.inf
        self._armed_cpu_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, user: User) -> None:
        """Note that something of a user waits."""
        self.waiting[user] = None
        self.turns.waiting.add(self)
        self._arm()

    def left(self, user: User) -> None:
        """Note that something of a user waits no more."""
        if not user:
            self.waiting.pop(user, None)
        if not self.waiting:
            self.turns.waiting.discard(self)
            self._disarm()

    def let_in(self) -> None:
        """Count a call that is admitted."""
        self.unbegun += 1
        self._let_in_s = self.turns.now()

    def began(self, count: int) -> None:
        """Note that handlers have begun with `count` calls, or that the calls ended before that."""
        if count and self.unbegun:
            self.unbegun = max(self.unbegun - count, 0)
            if self.waiting:
                self._disarm()
                self._arm()

    def is_clogged(self) -> bool:
        """Whether calls have to wait for handlers that have not begun."""
        if self.unbegun >= UNBEGUN_MAX and self.turns.now() >= self._let_in_s + UNBEGUN_S:
            self.unbegun = 0
        return self.unbegun >= UNBEGUN_MAX

    @property
    def idle(self) -> bool:
        """Whether it can be forgotten, since nothing would be different without it."""
        return not self.users and self.pace.debt_s(self.turns.now()) <= 0

    def _next(self) -> User | None:
        """Return the user that has used least among those that may continue."""
        clogged = self.is_clogged()
        ready = [user for user in self.waiting if not (clogged and user.next_is_call)]
        return min(ready, key=_used, default=None)

    def _delay_s(self) -> float:
        now_s = self.turns.now()
        delay_s = self.pace.debt_s(now_s) - GRACE_S
        if self.is_clogged() and all(user.next_is_call for user in self.waiting):
            delay_s = max(delay_s, self._let_in_s + UNBEGUN_S - now_s)
        return max(delay_s, 0.0)

    def _arm(self) -> None:
        if self._timer is None and self.waiting:
            self._armed_cpu_s = time.thread_time()
            self._timer = asyncio.get_running_loop().call_later(self._delay_s(), self._serve)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _serve(self) -> None:
        """Give one turn to one user. Its cost is known when this is called again."""
        assert self._timer is not None
        now_s, begin_s = self.turns.now(), time.thread_time()
        lag_s = min(now_s - self._timer.when(), begin_s - self._armed_cpu_s)
        self._timer = None
        if lag_s > LAG_S:
            self.pace.charge(now_s, min(lag_s, LAG_MAX_S))
        # A debt below the clock's resolution would wake up the loop for nothing.
        if self.pace.debt_s(now_s) <= GRACE_S + TICK_S and (user := self._next()) is not None:
            self.virtual_s = max(self.virtual_s, user.virtual_s)
            ticket = user.take()
            # Finding the next user costs more the longer the queue is.
            user.charge(max(TURN_COST_S, time.thread_time() - begin_s))
            ticket.go()
        self._arm()


def _used(user: User) -> float:
    return max(user.virtual_s, user.account.virtual_s)
