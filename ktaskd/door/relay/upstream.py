"""From the client to gRPC: calls wait here for their turn, and requests for room."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ktaskd.door.admission.patience import Alarm
from ktaskd.door.relay.calls import Calls
from ktaskd.door.relay.frames import DATA, END_HEADERS, PREFACE, RST_STREAM, Frames, Mark
from ktaskd.door.relay.pump import FRAME_BYTES_MAX, Pump
from ktaskd.host.sockets.unixsock import has_hung_up

UNFINISHED_LOOK_S = 0.05
"""Shortest time between two checks of unfinished requests."""

HANGUP_S = 0.5
"""How often to check whether a client is still connected while nothing is read from it."""


class Upstream(Pump):
    """Passes requests on. A call waits for its turn, and so does everything behind it.

    Args:
        request_s: longest time for the client to send one request; 0 = no limit.
        on_done: called when the client has closed its sending side.
        on_broken: called when the connection has to be closed.
    """

    __slots__ = ("_client_s", "_deadline", "_ending", "_hangup", "_own", "_request_s", "_room", "_since_s")

    def __init__(
        self,
        request_s: float,
        calls: Calls,
        source: socket.socket,
        sink: socket.socket,
        on_done: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        """Nothing is read before `start`."""
        super().__init__(calls, source, sink, Frames(PREFACE), on_done, on_broken)
        self._request_s = request_s
        self._room = self._own = False
        """Whether it waits for room, and whether its own account alone has used up the room."""
        self._ending = 0
        """The request whose last frame has begun."""
        self._deadline: Alarm | None = None
        self._hangup: asyncio.TimerHandle | None = None
        self._client_s = 0.0
        self._since_s: float | None = None
        self._calls.clock = self._clock

    def stop(self) -> None:
        """Neither read nor write any more. There is no way back."""
        super().stop()
        self._calls.purse.forget(self._on_room)
        for timer in (self._deadline, self._hangup):
            if timer is not None:
                timer.cancel()

    def _look(self) -> int:
        count = super()._look()
        # The header of the last frame only promises the payload: a request is complete with its last byte.
        if self._ending and not self._frames.inside:
            self._calls.sent_all(self._ending)
            self._ending = 0
        return count

    def _visit(self, mark: Mark) -> bool:
        calls, inside = self._calls, True
        if self._ending:
            calls.sent_all(self._ending)
            self._ending = 0
        if mark.kind == DATA and mark.size > FRAME_BYTES_MAX:
            # gRPC would close the connection, and the announced bytes would be counted until then.
            self._loop.call_soon(self._on_broken)
            return True
        if mark.opens:
            inside = calls.begin(mark.stream, self._on_call_turn)
        if mark.kind == RST_STREAM:
            calls.reset(mark.stream)
            return inside
        if mark.kind == DATA:
            calls.sent(mark.stream, mark.size)
        if mark.ends and (mark.kind == DATA or mark.flags & END_HEADERS):
            self._ending = mark.stream
        return inside

    def _on_turn(self) -> None:
        if has_hung_up(self._source):
            # gRPC would cancel the remaining calls as soon as it had read them.
            self._ticket = None
            self._on_broken()
        else:
            super()._on_turn()

    def _on_call_turn(self) -> None:
        if has_hung_up(self._source):
            self._on_broken()
            return
        # Without room the call continues with the next turn.
        if not (self._rest or self._waits()):
            self._go_on()

    def _holds(self) -> bool:
        return self._calls.waits

    def _prepare(self) -> None:
        super()._prepare()
        self._watch_unfinished()

    def _waits(self) -> bool:
        if self._calls.waits:
            return True
        if self._calls.purse.is_over and not self._may_end():
            if not self._room:
                self._room, self._own = True, self._calls.purse.is_own_doing
                self._clock()
                self._calls.purse.wait(self._on_room)
                self._look_for_hangup()
            return True
        return False

    def _may_end(self) -> bool:
        """Whether to continue without room, so that requests with a place can end and make room."""
        return self._calls.placed > 0 and not self._calls.purse.is_far_over

    def _look_for_hangup(self) -> None:
        """Check whether a client that nobody reads from has hung up: it could leave its bytes counted."""
        if has_hung_up(self._source):
            self._hangup = self._loop.call_later(0, self._on_broken)
        else:
            self._hangup = self._loop.call_later(HANGUP_S, self._look_for_hangup)

    def _on_room(self) -> None:
        self._clock()
        self._room = False
        if self._hangup is not None:
            self._hangup.cancel()
        if not self._stopped:
            self._prepare()

    # -- unfinished requests

    def _clock(self) -> float:
        """Return for how long the relay has waited for the client, without the time spent waiting for a turn.

        Time without room counts if its own account has used up the room.
        """
        now_s = self._loop.time()
        if self._since_s is not None:
            self._client_s += now_s - self._since_s
        self._since_s = now_s if self._reading or (self._room and self._own) else None
        return self._client_s

    def start(self) -> None:
        """Read from now on."""
        if not self._reading:
            super().start()
            self._clock()

    def _pause(self) -> None:
        if self._reading:
            self._clock()
            super()._pause()
            self._clock()

    def _watch_unfinished(self) -> None:
        if self._deadline is not None or not self._request_s:
            return
        begun_s = self._calls.oldest_unfinished_s()
        if begun_s is not None:
            left_s = begun_s + self._request_s - self._clock()
            self._deadline = Alarm(max(left_s, UNFINISHED_LOOK_S), self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        begun_s = self._calls.oldest_unfinished_s()
        if begun_s is not None and begun_s + self._request_s <= self._clock():
            self._on_broken()
        else:
            self._watch_unfinished()
