"""One uid's use of the daemon's loop, and its work that waits for a turn."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from ktaskd.door.admission.budget import Budget, Purse
from ktaskd.door.admission.meter import Meter
from ktaskd.door.admission.prices import (
    CALL_ALONE_S,
    CALL_COST_S,
    GRACE_S,
    LIGHT_GRACE_S,
    LIGHT_PRICE,
    LOOK_S,
    MODEST_S,
    PRICE,
    THERE_S,
    UNBEGUN_S,
)


class Others(Protocol):
    """All accounts, as one user sees them."""

    @property
    def now(self) -> Callable[[], float]:
        """Returns seconds on the loop's clock."""

    @property
    def answers(self) -> Budget:
        """Bytes of answers that are not read yet."""

    @property
    def waiting(self) -> Collection[object]:
        """Accounts in which something waits."""

    def note(self, user: User) -> None:
        """Note that the user is present now."""

    def is_noticed(self, user: User, now_s: float) -> bool:
        """Whether another user is present that does not wait in a queue itself."""


class Payer(Protocol):
    """The account of a user, as the user sees it."""

    light: Meter
    pace: Meter
    users: dict[int, User]
    virtual_s: float
    unbegun: int

    @property
    def turns(self) -> Others:
        """All accounts."""

    @property
    def number(self) -> int:
        """The account's number."""

    @property
    def waiting(self) -> Collection[User]:
        """Users with something that waits."""

    def wait(self, user: User) -> None:
        """Note that something of a user waits."""

    def left(self, user: User) -> None:
        """Note that something of a user waits no more."""

    def let_in(self) -> None:
        """Count a call that is admitted."""

    def began(self, count: int) -> None:
        """Note that handlers have begun with `count` calls, or that the calls ended before that."""

    def is_clogged(self) -> bool:
        """Whether calls have to wait for handlers that have not begun."""


class Ticket:
    """Something that waits for its turn."""

    __slots__ = ("call", "go", "user", "waits")

    def __init__(self, user: User, go: Callable[[], None], call: bool) -> None:
        """Note what to call when it is its turn."""
        self.user = user
        self.go = go
        self.call = call
        self.waits = True
        """Whether it is in the queue; most tickets that are cancelled were served before."""

    def cancel(self) -> None:
        """Give up the turn."""
        self.user.drop(self)


class User:
    """One uid: its admitted calls, and its tickets, first come, first served."""

    __slots__ = (
        "_resets",
        "_waiting",
        "account",
        "answers",
        "calls",
        "members",
        "queued",
        "seen_s",
        "spent_s",
        "uid",
        "virtual_s",
    )

    def __init__(self, account: Payer, uid: int) -> None:
        """Start without calls and tickets."""
        self.uid = uid
        self.account = account
        self.answers = Purse(account.turns.answers, account.number)
        """Bytes of answers that it has not read yet."""
        self.calls = 0
        """Calls that were admitted and have not ended."""
        self.spent_s = 0.0
        """Use since the last answer."""
        self.queued = False
        """Whether it has waited in the queue since then."""
        self.virtual_s = 0.0
        """Use through the queue; after a pause at least that of the account's last user."""
        self.seen_s = -math.inf
        """Time of its last use."""
        self.members = 0
        """Its connections."""
        self._waiting: deque[Ticket] = deque()
        self._resets: deque[float] = deque()

    def __len__(self) -> int:
        """Return the number of tickets that wait."""
        return len(self._waiting)

    def ask(self, go: Callable[[], None], *, call: bool = False) -> Ticket | None:
        """Ask for a turn, or for the admission of a call.

        Returns:
            None if it is the user's turn now; then `go` is not called. Otherwise a ticket: `go`
            is called when it is its turn, unless the ticket is cancelled before.
        """
        now_s = self.note()
        if not self._waiting and self._may_now(call, now_s):
            self._let_in(call)
            return None
        ticket = Ticket(self, go, call)
        self._waiting.append(ticket)
        self.account.wait(self)
        return ticket

    def take_turn(self) -> bool:
        """Return whether it is the user's turn now; otherwise `turn` waits for that."""
        now_s = self.note()
        return not self._waiting and not self.answers.is_over and self._may_now(False, now_s)

    async def turn(self) -> None:
        """Wait for room for answers, and for a turn."""
        while self.answers.is_over:
            await self._room()
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = self.ask(lambda: None if came.done() else came.set_result(None))
        if ticket is None:
            return
        try:
            await came
        finally:
            ticket.cancel()

    async def _room(self) -> None:
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_room() -> None:
            if not came.done():
                came.set_result(None)

        self.answers.wait(on_room)
        try:
            await came
        finally:
            self.answers.forget(on_room)

    def charge(self, cost_s: float) -> None:
        """Charge the user for `cost_s` seconds of the loop's work."""
        now_s = self.note()
        light = self._is_light(False, now_s)
        self.spent_s += cost_s
        account = self.account
        turns = account.turns
        noticed = turns.is_noticed(self, now_s)
        if light:
            account.light.charge(now_s, cost_s * (LIGHT_PRICE if noticed else 1.0))
            account.pace.charge(now_s, cost_s)
        else:
            # Only use through the queue counts in it. Otherwise users that are new to the queue would be
            # served before one that has called now and then for long, until each had used as much.
            self.virtual_s = max(self.virtual_s, account.virtual_s) + cost_s
            crowd = len(turns.waiting) + (account not in turns.waiting)
            account.pace.charge(now_s, cost_s * (PRICE if noticed else 1.0) * crowd)

    def began(self) -> None:
        """Note that a handler has begun with a call."""
        self.account.began(1)

    def ended(self, count: int, unbegun: int, *, answered: bool = False) -> None:
        """Note the end of calls, `unbegun` of them before a handler began with them."""
        self.calls -= count
        if answered and not self.calls:
            self._start_again()
        self.account.began(unbegun)

    def was_reset(self) -> None:
        """Note that the client cancelled a call. gRPC works on it for a while, so it still counts."""
        self.calls -= 1
        now_s = self.account.turns.now()
        self._inside(now_s)
        self._resets.append(now_s + UNBEGUN_S)

    def drop(self, ticket: Ticket) -> None:
        """Forget a ticket; ignored if it does not wait."""
        if ticket.waits:
            ticket.waits = False
            self._waiting.remove(ticket)
            self.account.left(self)

    def note(self) -> float:
        """Note that the user is present now, and return the time."""
        turns = self.account.turns
        now_s = turns.now()
        pause_s = now_s - self.seen_s
        if pause_s > LOOK_S:
            if pause_s > THERE_S and not self._waiting:
                self._start_again()
            self.seen_s = now_s
            turns.note(self)
        return now_s

    def _start_again(self) -> None:
        self.spent_s, self.queued = 0.0, False

    @property
    def next_is_call(self) -> bool:
        """Whether the first ticket is for a call."""
        return self._waiting[0].call

    def take(self) -> Ticket:
        """Give the first ticket its turn, and return it."""
        self.note()
        ticket = self._waiting.popleft()
        ticket.waits = False
        self.queued = True
        self.account.left(self)
        self._let_in(ticket.call)
        return ticket

    def _is_light(self, call: bool, now_s: float) -> bool:
        """Whether it does one modest thing after the other, even with one more call."""
        if self._waiting or self.queued or self.spent_s > MODEST_S:
            return False
        return self._inside(now_s) + call <= 1

    def _inside(self, now_s: float) -> int:
        resets = self._resets
        while resets and resets[0] <= now_s:
            resets.popleft()
        return self.calls + len(resets)

    def _may_now(self, call: bool, now_s: float) -> bool:
        account = self.account
        if self._is_light(call, now_s) and account.light.debt_s(now_s) <= LIGHT_GRACE_S:
            return True
        if account.waiting or (call and account.is_clogged()):
            return False
        return account.pace.debt_s(now_s) <= GRACE_S

    def _let_in(self, call: bool) -> None:
        if call:
            self.calls += 1
            self.account.let_in()
            turns = self.account.turns
            noticed = turns.is_noticed(self, turns.now())
            self.charge(CALL_COST_S if noticed else CALL_ALONE_S)
