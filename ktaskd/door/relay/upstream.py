"""From the client to gRPC: calls wait for their turn, and requests for room."""

from __future__ import annotations

import asyncio
from typing import Any

from ktaskd.door.admission.patience import Alarm
from ktaskd.door.relay.frames import DATA, END_HEADERS, RST_STREAM, Mark
from ktaskd.door.relay.pump import FRAME_BYTES_MAX, Way
from ktaskd.host.sockets.unixsock import has_hung_up

HALVES_LOOK_S = 0.05
"""Shortest time between two looks at requests that have not ended."""

HANGUP_S = 0.5
"""How often it is looked whether a client is still there that may send no more now."""


class WayIn(Way):
    """From the client to gRPC: a call waits here for its turn, and what comes after it too.

    Args:
        half_s: longest time for a request to be sent; 0 = no limit.
    """

    __slots__ = ("_client_s", "_deadline", "_ending", "_half_s", "_hangup", "_own", "_room", "_since_s")

    def __init__(self, half_s: float, *args: Any) -> None:
        super().__init__(*args)
        self._half_s = half_s
        self._room = self._own = False
        """Whether it waits for room, and whether that is its own account's doing."""
        self._ending = 0
        """The request whose last frame has begun."""
        self._deadline: Alarm | None = None
        self._hangup: asyncio.TimerHandle | None = None
        self._client_s = 0.0
        self._since_s: float | None = None
        self._calls.clock = self._clock

    def stop(self) -> None:
        """Neither read nor write any more; for good."""
        super().stop()
        self._calls.purse.forget(self._on_room)
        for timer in (self._deadline, self._hangup):
            if timer is not None:
                timer.cancel()

    def _look(self) -> int:
        count = super()._look()
        # The head of its last frame is a mere promise: a request is whole with the last byte.
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
            # gRPC would close the connection, and what was promised would be counted until then.
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
            # What is left of its calls would be cancelled as soon as it was read.
            self._ticket = None
            self._on_broken()
        else:
            super()._on_turn()

    def _on_call_turn(self) -> None:
        if has_hung_up(self._source):
            self._on_broken()
            return
        # Where there is no room the call goes on with the next turn.
        if not (self._rest or self._waits()):
            self._go_on()

    def _holds(self) -> bool:
        return self._calls.waits

    def _prepare(self) -> None:
        super()._prepare()
        self._watch_halves()

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
        """Whether it has to go on, so that requests with a place can end and make room."""
        return self._calls.placed > 0 and not self._calls.purse.is_far_over

    def _look_for_hangup(self) -> None:
        """Whoever is not read from could go without being noticed, and what it holds would stay."""
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

    # -- requests that do not end

    def _clock(self) -> float:
        """Seconds that the client was waited for: not those in which it waits for its turn.

        Time without room counts where that is its own account's doing.
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

    def _watch_halves(self) -> None:
        if self._deadline is not None or not self._half_s:
            return
        begun_s = self._calls.oldest_half_s()
        if begun_s is not None:
            left_s = begun_s + self._half_s - self._clock()
            self._deadline = Alarm(max(left_s, HALVES_LOOK_S), self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        begun_s = self._calls.oldest_half_s()
        if begun_s is not None and begun_s + self._half_s <= self._clock():
            self._on_broken()
        else:
            self._watch_halves()
