"""What one uid uses of the daemon's loop, and what of it waits for its turn."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ktaskd.door.admission.ledger import Purse
from ktaskd.door.admission.prices import (
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

if TYPE_CHECKING:
    from ktaskd.door.admission.account import Account


class Ticket:
    """One thing that waits for its turn."""

    __slots__ = ("call", "go", "user", "waits")

    def __init__(self, user: User, go: Callable[[], None], call: bool) -> None:
        """Hold them."""
        self.user = user
        self.go = go
        self.call = call
        self.waits = True
        """Whether it is in the line: most that are cancelled were served before."""

    def cancel(self) -> None:
        """It does not want its turn any more."""
        self.user.drop(self)


class User:
    """What one uid has inside, and what of it waits. First come, first served."""

    __slots__ = (
        "_resets",
        "_waiting",
        "account",
        "answers",
        "calls",
        "in_line",
        "members",
        "seen_s",
        "spent_s",
        "uid",
        "virtual_s",
    )

    def __init__(self, account: Account, uid: int) -> None:
        """Nothing is inside."""
        self.uid = uid
        self.account = account
        self.answers = Purse(account.turns.answers, account.number)
        """Bytes of answers that are on their way to it."""
        self.calls = 0
        """Calls that were let in and have not ended."""
        self.spent_s = 0.0
        """What was used since it was last answered."""
        self.in_line = False
        """Whether it has waited in line since then."""
        self.virtual_s = 0.0
        """What it has used in line; after a pause at least what the account's last one had."""
        self.seen_s = -math.inf
        """When it used anything last."""
        self.members = 0
        """Connections of it."""
        self._waiting: deque[Ticket] = deque()
        self._resets: deque[float] = deque()

    def __len__(self) -> int:
        """What waits."""
        return len(self._waiting)

    def ask(self, go: Callable[[], None], *, call: bool = False) -> Ticket | None:
        """Ask for a turn, or for a call to come in.

        Returns:
            None if it is its turn now; `go` is not called. Otherwise `go` is
            called when it is, unless the ticket is cancelled before.
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
        """Whether it is its turn now; otherwise `turn` waits for that."""
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
        """The loop has worked for it, so many seconds."""
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
            # Only what is used in line counts there: users that come new to it would be served before
            # one that has called now and then for long, until each had used as much.
            self.virtual_s = max(self.virtual_s, account.virtual_s) + cost_s
            crowd = len(turns.waiting) + (account not in turns.waiting)
            account.pace.charge(now_s, cost_s * (PRICE if noticed else 1.0) * crowd)

    def began(self) -> None:
        """A handler has begun with a call."""
        self.account.began(1)

    def ended(self, count: int, unbegun: int, *, answered: bool = False) -> None:
        """Calls have ended, `unbegun` of them before a handler began with them."""
        self.calls -= count
        if answered and not self.calls:
            self._start_anew()
        self.account.began(unbegun)

    def was_reset(self) -> None:
        """The client took a call back. gRPC goes on with it for a while, so it counts as one inside."""
        self.calls -= 1
        now_s = self.account.turns.now()
        self._inside(now_s)
        self._resets.append(now_s + UNBEGUN_S)

    def drop(self, ticket: Ticket) -> None:
        """Forget what waits; one that does not wait does no harm."""
        if ticket.waits:
            ticket.waits = False
            self._waiting.remove(ticket)
            self.account.left(self)

    def note(self) -> float:
        """It is present now; the time."""
        turns = self.account.turns
        now_s = turns.now()
        pause_s = now_s - self.seen_s
        if pause_s > LOOK_S:
            if pause_s > THERE_S and not self._waiting:
                self._start_anew()
            self.seen_s = now_s
            turns.note(self)
        return now_s

    def _start_anew(self) -> None:
        self.spent_s, self.in_line = 0.0, False

    @property
    def next_is_call(self) -> bool:
        """Whether a call is the first that waits."""
        return self._waiting[0].call

    def take(self) -> Ticket:
        """Let in the first that waits."""
        self.note()
        ticket = self._waiting.popleft()
        ticket.waits = False
        self.in_line = True
        self.account.left(self)
        self._let_in(ticket.call)
        return ticket

    def _is_light(self, call: bool, now_s: float) -> bool:
        """Whether it does one modest thing after the other, also with one call more."""
        if self._waiting or self.in_line or self.spent_s > MODEST_S:
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
            self.charge(CALL_COST_S)
