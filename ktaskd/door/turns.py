"""When a connection or a call may come in, so that no uid has all of the daemon's one loop.

A connection costs the daemon some 0.7 ms and a call about 1 ms of CPU time. Who
makes one call after the other always gets in at once. What a uid wants besides
(more connections, more calls at one time) comes in at a pace that leaves the
loop free half of the time while other uids are there, and as fast as the loop
has begun what came before where nobody else is.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from itertools import takewhile

CONNECTION_S = 0.005
CALL_S = 0.005
"""From one to the next of a uid in which something waits, times the uids of which that is so."""

HURRY = 0.2
"""The part of that which is waited where nobody is there who would notice."""

UNBEGUN_MAX = 8
"""Calls of a uid that were let in and that no handler has begun with."""

UNBEGUN_S = 0.02
"""After so long a handler may never begin: not all that begins like a call is one."""

THERE_S = 0.1
"""So long after it came in a uid counts as being there."""


class Ticket:
    """One thing that wants to come in."""

    __slots__ = ("call", "go", "queue")

    def __init__(self, queue: Queue, go: Callable[[], None], call: bool) -> None:
        """Hold them."""
        self.queue = queue
        self.go = go
        self.call = call

    def cancel(self) -> None:
        """It does not want to come in any more."""
        self.queue.drop(self)


class Queue:
    """What one uid has inside, and what waits. First come, first served."""

    __slots__ = (
        "_next_s",
        "_timer",
        "_turns",
        "_waiting",
        "calls",
        "members",
        "seen_s",
        "uid",
        "unbegun",
    )

    def __init__(self, turns: Turns, uid: int) -> None:
        """Nothing is inside."""
        self.uid = uid
        self.calls = 0
        """Calls that were let in and have not ended."""
        self.unbegun = 0
        """Those of them that no handler has begun with, as far as is known."""
        self.seen_s = -math.inf
        """When it wanted to come in last."""
        self.members = 0
        """Connections that use this queue."""
        self._turns = turns
        self._waiting: deque[Ticket] = deque()
        self._next_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """What waits."""
        return len(self._waiting)

    def ask(self, go: Callable[[], None], *, call: bool) -> Ticket | None:
        """Let a connection or a call in.

        Returns:
            None if it is in; `go` is not called. Else it waits for its turn,
            and then `go` is called, unless the ticket is cancelled before.
        """
        self._turns.note(self)
        if not self._waiting and self._delay_s(call, waited=False) <= 0:
            self._let_in(call)
            return None
        ticket = Ticket(self, go, call)
        self._waiting.append(ticket)
        self._turns.waiting.add(self)
        self._wait()
        return ticket

    def began(self) -> None:
        """A handler has begun with a call."""
        if self.unbegun:
            self.unbegun -= 1
            self._serve()

    def ended(self, count: int, unbegun: int) -> None:
        """Calls have ended, `unbegun` of them before a handler began with them."""
        self.calls -= count
        self.unbegun = max(self.unbegun - unbegun, 0)
        self._serve()

    def drop(self, ticket: Ticket) -> None:
        """Forget what waits; one that does not wait does no harm."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(ticket)
            self._rest()

    @property
    def idle(self) -> bool:
        """Whether nothing would be different without it."""
        return not self.members and self._next_s <= self._turns.now()

    def _delay_s(self, call: bool, *, waited: bool) -> float:
        """How long what is next must still wait; <= 0 = not at all."""
        now = self._turns.now()
        if call and not self.calls and not waited:
            return 0.0
        if call and self.unbegun >= UNBEGUN_MAX:
            return max(self._next_s + UNBEGUN_S - now, 0.0)
        return self._next_s - now

    def _let_in(self, call: bool) -> None:
        if not call or self.calls:
            pause_s = (CALL_S if call else CONNECTION_S) * self._turns.crowd(self)
            self._next_s = self._turns.now() + pause_s
        self.calls += call
        self.unbegun += call

    def _serve(self) -> None:
        """Let in what may come in now."""
        while self._waiting and self._delay_s(self._waiting[0].call, waited=True) <= 0:
            ticket = self._waiting.popleft()
            self._let_in(ticket.call)
            ticket.go()
        self._rest()

    def _rest(self) -> None:
        if self._waiting:
            self._wait()
            return
        self._turns.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        if self._timer is None:
            delay_s = max(self._delay_s(self._waiting[0].call, waited=True), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiting and self._waiting[0].call and self.unbegun >= UNBEGUN_MAX:
            self.unbegun = 0
        self._serve()


class Turns:
    """The queues of all uids that have connections.

    Args:
        now: seconds on the loop's clock.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Nobody is there."""
        self.now = now or asyncio.get_running_loop().time
        self.waiting: set[Queue] = set()
        """Those in which something waits."""
        self._queues: dict[int, Queue] = {}
        """Who came in last is the last."""
        self._sweep_at = 16

    def join(self, uid: int) -> Queue:
        """The queue of a uid, for one connection more; `leave` ends that."""
        queue = self._queues.get(uid)
        if queue is None:
            self._sweep()
            queue = self._queues[uid] = Queue(self, uid)
        queue.members += 1
        return queue

    def leave(self, queue: Queue) -> None:
        """A connection is over. Its uid is remembered for as long as it has to pause."""
        queue.members -= 1

    def _sweep(self) -> None:
        """Forget uids that are not there, now and then."""
        if len(self._queues) >= self._sweep_at:
            for uid in [uid for uid, queue in self._queues.items() if queue.idle]:
                del self._queues[uid]
            self._sweep_at = max(2 * len(self._queues), 16)

    def note(self, queue: Queue) -> None:
        """The uid wants to come in now."""
        self._queues[queue.uid] = self._queues.pop(queue.uid)
        queue.seen_s = self.now()

    def crowd(self, queue: Queue) -> float:
        """How much longer a uid has to pause because of who else is there."""
        there_s = self.now() - THERE_S
        recent = takewhile(lambda other: other.seen_s >= there_s, reversed(self._queues.values()))
        noticed = any(other is not queue and not len(other) for other in recent)
        return max(len(self.waiting), 1) * (1.0 if noticed else HURRY)
