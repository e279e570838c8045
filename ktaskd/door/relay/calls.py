"""The calls of one connection, as its bytes show them: which wait, and how many bytes they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from ktaskd.door.admission.budget import Purse
from ktaskd.door.admission.places import Places
from ktaskd.door.admission.turns import Ticket, User

CALL_BYTES = 32 * 1024
"""Memory that gRPC holds for a call before a handler has begun with it. Measured: 30 to 50 KiB."""
PREFIX_BYTES = 5
"""Length of the prefix of a message. Source: gRPC over HTTP/2, "Length-Prefixed-Message"."""


@dataclass(slots=True)
class _Request:
    """The request of one call.

    Args:
        held: bytes that no handler has taken over.
        whole: the client has sent all of it.
    """

    begun_s: float
    held: int = CALL_BYTES
    whole: bool = False


class Calls:
    """Counts the calls, and makes each wait for its turn.

    Invariant: all known requests are inside, except for one while there is a ticket.

    Args:
        purse: bytes of requests that no handler has begun with.

    Attributes:
        clock: returns the seconds for which the relay has waited for the client.
        placed: requests that have a place, so that their client can send them to the end.
    """

    __slots__ = (
        "_highest",
        "_requests",
        "_ticket",
        "_unbegun",
        "_unfinished",
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
        """Handlers that wait for a place before they read their request."""
        self._unfinished: dict[int, None] = {}
        """Requests of which the client has not sent the last byte."""
        self._whole: dict[int, None] = {}
        """Complete requests that no handler has taken over."""
        self._unbegun = 0
        self._ticket: Ticket | None = None

    @property
    def waits(self) -> bool:
        """Whether a call waits for its turn."""
        return self._ticket is not None

    def begin(self, stream: int, go: Callable[[], None]) -> bool:
        """Admit a call; return False if it has to wait, and then call `go` when it is in."""
        if stream <= self._highest or not stream % 2:
            # The frame continues a call, or gRPC ignores it: a client numbers its calls
            # upwards, with odd numbers. Source: RFC 9113, section 5.1.1.
            return True
        self._highest = stream
        self._requests[stream] = _Request(self.clock())
        self._unfinished[stream] = None
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
        """Count bytes of a request that the client sends."""
        request = self._requests.get(stream)
        if request is not None and not request.whole:
            request.held += size
            self.purse.add(size)

    def sent_all(self, stream: int) -> None:
        """Note that the client has sent the last byte of a request."""
        request = self._requests.get(stream)
        if request is not None and not request.whole:
            request.whole = True
            self._finish(stream)
            self._whole[stream] = None

    def reading(self, places: Places) -> AbstractAsyncContextManager[None] | None:
        """Return a context for a handler that reads its request; None if all requests are complete."""
        return self._placed(places) if self._unfinished else None

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

    def _finish(self, stream: int) -> None:
        """Note that a request is complete. Once all are, no handler has to wait for a place."""
        self._unfinished.pop(stream, None)
        if not self._unfinished:
            for came in list(self._unplaced):
                if not came.done():
                    came.set_result(False)

    def _start_again(self) -> None:
        """Restart the time of the unfinished requests, which could not be sent until now."""
        now_s = self.clock()
        for stream in self._unfinished:
            self._requests[stream].begun_s = now_s

    def began(self) -> None:
        """Note that a handler has begun with a call."""
        if self._unbegun:
            self._unbegun -= 1
            self.user.began()

    def taken(self, size: int) -> None:
        """Note that a handler has taken over a complete request of `size` bytes.

        The request is not named, so this takes the oldest of those that fit best.
        """
        if self._whole:
            held = size + CALL_BYTES + PREFIX_BYTES
            stream = min(self._whole, key=lambda one: abs(self._requests[one].held - held))
            del self._whole[stream]
            self._release(self._requests[stream])

    def answered(self, stream: int) -> None:
        """Note that the server has begun to answer: its handler limits the wait for later messages.

        Bytes that were sent before led to the answer; later ones are counted from zero.
        """
        if stream in self._unfinished:
            self._finish(stream)
            self._release(self._requests[stream])

    def _release(self, request: _Request) -> None:
        held, request.held = request.held, 0
        if held:
            self.purse.drop(held)

    def end(self, stream: int) -> None:
        """Note that the server has ended a call; an unknown number is ignored."""
        if self._forget(stream):
            inside = len(self._requests) - (self._ticket is not None)
            unbegun = max(self._unbegun - inside, 0)
            self._unbegun -= unbegun
            self.user.ended(1, unbegun, answered=True)

    def reset(self, stream: int) -> None:
        """Note that the client has cancelled a call. A handler may begin with it all the same."""
        if self._forget(stream):
            self.user.was_reset()

    def _forget(self, stream: int) -> bool:
        request = self._requests.pop(stream, None)
        if request is None:
            return False
        self._whole.pop(stream, None)
        self._finish(stream)
        self._release(request)
        return True

    def oldest_unfinished_s(self) -> float | None:
        """Return when the oldest unfinished request began, on the clock.

        None if there is none, or if one waits for a place, since the client cannot send then.
        """
        if self._unplaced:
            return None
        stream = next(iter(self._unfinished), None)
        return None if stream is None else self._requests[stream].begun_s

    def end_all(self) -> None:
        """Note that the connection is closed: all its calls have ended."""
        if self._ticket is not None:
            self._ticket.cancel()
        count = len(self._requests) - (self._ticket is not None)
        self._ticket = None
        for known in (self._requests, self._unfinished, self._whole):
            known.clear()
        self.purse.drop(self.purse.held)
        unbegun, self._unbegun = self._unbegun, 0
        self.user.ended(count, unbegun)
