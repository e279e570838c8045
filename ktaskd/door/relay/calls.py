"""The calls of one connection, as its bytes tell: whose turn it is, and what of them is held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from ktaskd.door.admission.ledger import Purse
from ktaskd.door.admission.places import Places
from ktaskd.door.admission.turns import Ticket, User

CALL_BYTES = 32 * 1024
"""What gRPC holds for a call before a handler has begun with it. Measured: 30 to 50 KiB."""


PREFIX_BYTES = 5
"""What comes before a message. Source: gRPC over HTTP/2, "Length-Prefixed-Message"."""


@dataclass(slots=True)
class _Request:
    """What came of one call's request so far, and what of it no handler has taken over."""

    begun_s: float
    held: int = CALL_BYTES
    whole: bool = False


class Calls:
    """Counts them, and has each wait for its turn.

    Invariant: all in the set are inside, but for one while there is a ticket.

    Args:
        purse: bytes of requests that no handler has begun with.

    Attributes:
        clock: seconds for which the client has been waited for.
        placed: requests that have a place, so that their client can send all of them.
    """

    __slots__ = (
        "_halves",
        "_highest",
        "_requests",
        "_ticket",
        "_unbegun",
        "_unplaced",
        "_whole",
        "clock",
        "placed",
        "purse",
        "user",
    )

    def __init__(self, user: User, purse: Purse) -> None:
        self.user = user
        self.purse = purse
        self.clock: Callable[[], float] = lambda: 0.0
        self._requests: dict[int, _Request] = {}
        self._highest = 0
        self.placed = 0
        self._unplaced: dict[asyncio.Future[bool], None] = {}
        """Handlers that wait for a place to read their request."""
        self._halves: dict[int, None] = {}
        """Requests that have not ended."""
        self._whole: dict[int, None] = {}
        """Requests that have ended, and that no handler has begun with."""
        self._unbegun = 0
        self._ticket: Ticket | None = None

    @property
    def waits(self) -> bool:
        """Whether a call waits for its turn."""
        return self._ticket is not None

    def begin(self, stream: int, go: Callable[[], None]) -> bool:
        """Whether a call may come in now; otherwise `go` is called when it is in."""
        if stream <= self._highest or not stream % 2:
            # It goes on with a call, or gRPC passes it over: a client numbers its calls
            # upwards, and has the odd numbers. Source: RFC 9113, section 5.1.1.
            return True
        self._highest = stream
        self._requests[stream] = _Request(self.clock())
        self._halves[stream] = None
        self.purse.add(CALL_BYTES)

        def on_turn() -> None:
            self._ticket = None
            self._unbegun += 1
            go()

        self._ticket = self.user.ask(on_turn, call=True)
        if self._ticket is None:
            self._unbegun += 1
        return self._ticket is None

    def sent(self, stream: int, size: int) -> None:
        """The client sends bytes of a request."""
        request = self._requests.get(stream)
        if request is not None and not request.whole:
            request.held += size
            self.purse.add(size)

    def sent_all(self, stream: int) -> None:
        """The client has sent the last byte of a request."""
        request = self._requests.get(stream)
        if request is not None and not request.whole:
            request.whole = True
            self._is_half_no_more(stream)
            self._whole[stream] = None

    def reading(self, places: Places) -> AbstractAsyncContextManager[None] | None:
        """To be entered while a handler reads its request; None: all requests are whole."""
        return self._placed(places) if self._halves else None

    @asynccontextmanager
    async def _placed(self, places: Places) -> AsyncIterator[None]:
        came: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unplaced[came] = None
        came.add_done_callback(lambda _: self._unplaced.pop(came, None))
        async with places.place(self.purse.account, self.user.uid, came) as has_place:
            self._start_again()
            self.placed += has_place
            try:
                if has_place:
                    self.purse.wake()
                yield
            finally:
                self.placed -= has_place

    def _is_half_no_more(self, stream: int) -> None:
        """A request has ended. Where all have, nobody needs a place: small ones come whole without one."""
        self._halves.pop(stream, None)
        if not self._halves:
            for came in list(self._unplaced):
                if not came.done():
                    came.set_result(False)

    def _start_again(self) -> None:
        """Requests that have not ended could not, so their time begins now."""
        now_s = self.clock()
        for stream in self._halves:
            self._requests[stream].begun_s = now_s

    def began(self) -> None:
        """A handler has begun with one of them."""
        if self._unbegun:
            self._unbegun -= 1
            self.user.began()

    def taken(self, size: int) -> None:
        """A handler has taken over a whole request of so many bytes.

        Which is not known: the oldest is taken for it of those that fit best.
        """
        if self._whole:
            held = size + CALL_BYTES + PREFIX_BYTES
            stream = min(self._whole, key=lambda one: abs(self._requests[one].held - held))
            del self._whole[stream]
            self._release(self._requests[stream])

    def answered(self, stream: int) -> None:
        """The server has begun to answer: a handler is there, and bounds the wait for what is to come.

        What was sent before has led to the answer; what comes later is counted anew.
        """
        if stream in self._halves:
            self._is_half_no_more(stream)
            self._release(self._requests[stream])

    def _release(self, request: _Request) -> None:
        held, request.held = request.held, 0
        if held:
            self.purse.drop(held)

    def end(self, stream: int) -> None:
        """The server has ended one; one that is not known does no harm."""
        if self._forget(stream):
            inside = len(self._requests) - (self._ticket is not None)
            unbegun = max(self._unbegun - inside, 0)
            self._unbegun -= unbegun
            self.user.ended(1, unbegun, answered=True)

    def reset(self, stream: int) -> None:
        """The client has taken one back. Whether a handler begins with it all the same is not known."""
        if self._forget(stream):
            self.user.was_reset()

    def _forget(self, stream: int) -> bool:
        request = self._requests.pop(stream, None)
        if request is None:
            return False
        self._whole.pop(stream, None)
        self._is_half_no_more(stream)
        self._release(request)
        return True

    def oldest_half_s(self) -> float | None:
        """When the oldest request began that has not ended, by the clock.

        None if all have, or if one waits for a place: the client may not send then.
        """
        if self._unplaced:
            return None
        stream = next(iter(self._halves), None)
        return None if stream is None else self._requests[stream].begun_s

    def end_all(self) -> None:
        """The connection is over."""
        if self._ticket is not None:
            self._ticket.cancel()
        count = len(self._requests) - (self._ticket is not None)
        self._ticket = None
        for known in (self._requests, self._halves, self._whole):
            known.clear()
        self.purse.drop(self.purse.held)
        unbegun, self._unbegun = self._unbegun, 0
        self.user.ended(count, unbegun)
