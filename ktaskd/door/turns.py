"""Who may use the daemon's one loop now: turns are given by what was used, not by what was sent.

Everything that the loop does for a client is charged to the client's user and
account, in seconds: what was measured in our own callbacks, and an estimate for
what gRPC's code does where nobody can measure it. There are two lanes.

* A user that does one modest thing after the other is *light*, and never waits
  in line, as long as all light users of its account leave a third of the loop.
* Everything else waits in its account's line. That lane has a third of the
  loop while others are there who would notice, and nearly all of it otherwise.
  In the line the user that has used least is next.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable
from itertools import takewhile

from ktaskd.door.ledger import Ledger, Purse
from ktaskd.door.meter import Meter

CALL_COST_S = 0.001
"""What gRPC does for a call, whatever becomes of it. Measured: 0.7 to 1 ms."""

CONNECTION_COST_S = 0.0007
"""What gRPC does for a connection. Measured."""

TURN_COST_S = 2e-5
"""What a turn costs at least: to be parked, and to be woken."""

PRICE = 3.0
"""Seconds to wait for each second used, where others would notice; 1 where nobody is."""

LIGHT_PRICE = 1.5
"""The same of the light users of one account."""

GRACE_S = 0.015
LIGHT_GRACE_S = 0.03
"""Debts up to this do not make anybody wait: on a machine that others use up the loop is woken
some milliseconds late, and turns that are due then come one after the other, others' callbacks between."""

TICK_S = 1e-6

MODEST_S = 0.01
"""What a light user uses at most until it is answered."""

LAG_S = 0.004
LAG_MAX_S = 0.005
"""A turn that comes later than this, while the loop was at work, shows that it is busy with what nobody
was charged for: the next one waits so much longer, at most so long."""

UNBEGUN_MAX = 8
"""Calls of an account that were let in and that no handler has begun with."""

UNBEGUN_S = 0.02
"""After this time no handler may ever begin: not all that begins like a call is one."""

THERE_S = 0.1
"""A user counts as present for this long after it used anything."""

LOOK_S = 0.005
"""Who is present is looked up once in this time, and noted once."""

ANSWERS_FREE = 1024 * 1024
ANSWERS_ACCOUNT = 16 * 1024 * 1024
ANSWERS_TOTAL = 48 * 1024 * 1024
"""Bytes of answers that were not read yet: of a uid always, of an account, of all."""


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
        """What it has used in all; after a pause at least what the account's last one had."""
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
        self.virtual_s = max(self.virtual_s, account.virtual_s) + cost_s
        turns = account.turns
        noticed = turns.is_noticed(self, now_s)
        if light:
            account.light.charge(now_s, cost_s * (LIGHT_PRICE if noticed else 1.0))
            account.pace.charge(now_s, cost_s)
        else:
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


class Account:
    """The users that one person pays for, and the line in which they wait. One turn at a time."""

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

    def __init__(self, turns: Turns, number: int) -> None:
        """Nobody is there."""
        self.turns = turns
        self.number = number
        self.pace = Meter()
        self.light = Meter()
        self.users: dict[int, User] = {}
        self.waiting: dict[User, None] = {}
        """Users of which something waits."""
        self.virtual_s = 0.0
        """What the user had used that was served last."""
        self.unbegun = 0
        """Calls inside that no handler has begun with, as far as is known."""
        self._let_in_s = -math.inf
        self._armed_cpu_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, user: User) -> None:
        """Something of a user waits."""
        self.waiting[user] = None
        self.turns.waiting.add(self)
        self._arm()

    def left(self, user: User) -> None:
        """Something of a user waits no more."""
        if not user:
            self.waiting.pop(user, None)
        if not self.waiting:
            self.turns.waiting.discard(self)
            self._disarm()

    def let_in(self) -> None:
        """A call comes in."""
        self.unbegun += 1
        self._let_in_s = self.turns.now()

    def began(self, count: int) -> None:
        """So many calls need no more to be waited for."""
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
        """Whether nothing would be different without it."""
        return not self.users and self.pace.debt_s(self.turns.now()) <= 0

    def _next(self) -> User | None:
        """The user that has used least, of those that may go on."""
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
        """Give one turn, to one user. What it costs is known when this is called again."""
        assert self._timer is not None
        now_s, begin_s = self.turns.now(), time.thread_time()
        lag_s = min(now_s - self._timer.when(), begin_s - self._armed_cpu_s)
        self._timer = None
        if lag_s > LAG_S:
            self.pace.charge(now_s, min(lag_s, LAG_MAX_S))
        # A debt of less than the clock can tell would have us wake up for nothing.
        if self.pace.debt_s(now_s) <= GRACE_S + TICK_S and (user := self._next()) is not None:
            self.virtual_s = max(self.virtual_s, user.virtual_s)
            ticket = user.take()
            # To find who is next costs more the longer the line is.
            user.charge(max(TURN_COST_S, time.thread_time() - begin_s))
            ticket.go()
        self._arm()


def _used(user: User) -> float:
    return max(user.virtual_s, user.account.virtual_s)


class Turns:
    """All accounts that have connections.

    Args:
        now: seconds on the loop's clock.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Nobody is there."""
        self.now = now or asyncio.get_running_loop().time
        self.answers = Ledger(free=ANSWERS_FREE, account=ANSWERS_ACCOUNT, total=ANSWERS_TOTAL)
        self.waiting: set[Account] = set()
        """Those in which something waits."""
        self._accounts: dict[int, Account] = {}
        self._recent: dict[User, None] = {}
        """The user that used anything last is the last."""
        self._quiet: list[User] = []
        self._look_at_s = -math.inf
        self._sweep_at = 16

    def join(self, uid: int, account: int | None = None) -> User:
        """The user of a uid, for one connection more; `leave` ends that.

        Args:
            account: who pays; None = the uid itself.
        """
        user = self.find(uid, account)
        user.members += 1
        return user

    def find(self, uid: int, account: int | None = None) -> User:
        """The user of a uid, without a connection more."""
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
        """A connection is over. Its account is remembered while it has a debt."""
        user.members -= 1

    def _sweep(self) -> None:
        """Forget accounts that are not there, now and then."""
        if len(self._recent) >= self._sweep_at:
            for user in [user for user in self._recent if not (user.members or user)]:
                del self._recent[user], user.account.users[user.uid]
            for number in [number for number, one in self._accounts.items() if one.idle]:
                del self._accounts[number]
            self._sweep_at = max(2 * len(self._recent), 16)

    def note(self, user: User) -> None:
        """The user is present now."""
        with contextlib.suppress(KeyError):  # swept in the meantime
            del self._recent[user]
            self._recent[user] = None

    def is_noticed(self, user: User, now_s: float) -> bool:
        """Whether anybody else is present who does not wait in line itself."""
        if now_s >= self._look_at_s:
            recent = takewhile(lambda one: one.seen_s >= now_s - THERE_S, reversed(self._recent))
            self._quiet = [one for one in recent if not one][:2]
            self._look_at_s = now_s + LOOK_S
        quiet = self._quiet
        return len(quiet) > 1 or (len(quiet) == 1 and quiet[0] is not user)
