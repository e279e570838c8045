"""The governor: asks the policy whenever something may have changed, and tells what it says.

It wakes up by itself only while work is queued, or when a mode runs out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from ktaskd.governor.policy import Asked, Decision, State, decide, spread
from ktaskd.governor.readings import Reading, describe
from ktaskd.governor.settings import RUN, GovernorSettings
from ktaskd.model.allowance import Allowance, Mode, Reason
from ktaskd.model.observation import Observation

log = logging.getLogger(__name__)

AFRESH_S = 0.005
"""A reading is as good as fresh for so long."""

SUBMIT_SHARE = 0.05
STATUS_SHARE = 0.5
"""Of the time that reading afresh may take where there are jobs or questions without a
pause. A reading takes about a millisecond, but some batteries answer after tens of them."""

NO_USER_SIGNAL = (
    "governor.user_active is set, but neither logind (with dbus-fast: install ktaskd[dbus]) nor a terminal "
    "shows when somebody was at the machine"
)

LOOK_MIN_S = 0.01
"""Least time to the next look, so that rounding cannot make a loop of it."""


class Watching(Protocol):
    """What the governor needs of the machine."""

    def observe(self, own: Collection[int] = (), *, fresh: bool = True, user: bool = False) -> Observation:
        """What is true now.

        Args:
            own: our processes, whose use of the machine is nobody's pressure.
            fresh: whether to read what changes slowly, and tells of it, as well.
            user: whether to look for somebody at the machine.
        """
        ...

    def poll(self, on: bool) -> None:
        """Whether what tells of no change by itself is looked at now and then."""
        ...


def boot_clock() -> float:
    """Seconds since the boot; they go on while the machine sleeps, as time.monotonic does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Governor:
    """Holds the mode, what the policy remembers, and the one timer.

    Attributes:
        allowance: what was told last.
        mode_until_s: when the mode falls back to AUTO, seconds since the epoch; 0 = never.

    Args:
        settings: may be replaced at any time by `configure`.
        full: all workers that there are.
        on_allowance: told every new allowance, `full` not included.
        own: our processes besides this one.
    """

    def __init__(
        self,
        settings: GovernorSettings,
        full: Allowance,
        watch: Watching,
        on_allowance: Callable[[Allowance], None],
        *,
        own: Callable[[], Collection[int]] = tuple,
        clock: Callable[[], float] = boot_clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read before the first `refresh`. Needs the running loop."""
        self.allowance = full
        self.mode = Mode.AUTO
        self.mode_until_s = 0.0
        self._settings = settings
        self._full = full
        self._watch = watch
        self._on_allowance = on_allowance
        self._own = own
        self._clock = clock
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._state = State()
        self._seen = Observation()
        self._read_s = float("-inf")
        self._cost_s = 0.0
        self._mode_since_s = 0.0
        self._mode_ends_s: float | None = None
        self._look_s: float | None = None
        self._queued = False
        self._polling = False
        self._polled = False
        self._measures = True
        self._doubts = False
        self._doubted: tuple[str, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    # -- what others ask for -----------------------------------------------------------

    def refresh(self, share: float = SUBMIT_SHARE) -> Allowance:
        """The allowance as the machine is now, or was just now.

        Args:
            share: of the time that reading may take; what was read counts as fresh for
                so long that it takes no more, AFRESH_S at least.
        """
        if self._clock() - self._read_s >= max(AFRESH_S, self._cost_s / share):
            self._read(fresh=True)
        return self.allowance

    def look(self) -> None:
        """Read and decide; for whoever knows that something has changed."""
        self._read(fresh=self._doubts)  # a second reading has to be a new one

    def _read(self, *, fresh: bool) -> None:
        self._end_mode()
        begin_s = self._clock()
        user = self._settings.user_active != RUN
        self._seen = self._watch.observe(self._own(), fresh=fresh, user=user)
        self._read_s = self._clock()
        if fresh:
            # Smoothed: now and then somebody else has the CPU in the middle of it.
            cost_s = self._read_s - begin_s
            self._cost_s = (7 * self._cost_s + cost_s) / 8 if self._cost_s else cost_s
        self._log_doubted()
        self._decide()

    def set_mode(self, mode: Mode, duration_s: float | None = None) -> None:
        """Set who decides; AUTO again after `duration_s` seconds, None = never.

        Times count on while the machine sleeps.
        """
        self._mode_ends_s = None if duration_s is None else self._clock() + duration_s
        self._mode_since_s = self._wall()
        self.mode_until_s = 0.0 if duration_s is None else self._mode_since_s + duration_s
        self.mode = mode
        log.info("mode_set mode=%s seconds=%s", mode.value, "-" if duration_s is None else f"{duration_s:g}")
        self._read(fresh=True)

    def readings(self) -> tuple[Reading, ...]:
        """What was read last."""
        return describe(self._seen, self._state.meters)

    @property
    def mode_ends_s(self) -> float | None:
        """When the mode is AUTO again, on the governor's clock; None = it has no end."""
        return self._mode_ends_s

    @property
    def doubted(self) -> tuple[str, ...]:
        """Sensors that are not counted, as read last, and signals that are asked for and not there."""
        nobody = self._settings.user_active != RUN and self._seen.user.idle_s is None
        return self._seen.doubted + ((NO_USER_SIGNAL,) if nobody else ())

    def configure(self, settings: GovernorSettings) -> None:
        """Hold on to other thresholds from now on."""
        self._settings = settings
        self.look()

    def queued(self, on: bool) -> None:
        """Whether there is work; nothing is polled where there is none.

        Polling ends with the next look that is due then, not at once: of small
        jobs that come one after the other, each would start and end it.
        """
        self._queued = on
        if on and not self._polling:
            self._polling = True
            self._set_timer()

    def close(self) -> None:
        """No look by itself any more."""
        self._queued = False
        self._mode_ends_s = None
        self._polling = False
        self._set_timer()

    # -- inside ------------------------------------------------------------------------

    def _end_mode(self) -> None:
        if self._mode_ends_s is not None and self._clock() >= self._mode_ends_s:
            log.info("mode_over mode=%s now=%s", self.mode.value, Mode.AUTO.value)
            self.mode, self._mode_ends_s, self.mode_until_s = Mode.AUTO, None, 0.0

    def _log_doubted(self) -> None:
        """One line for each sensor that is no longer counted, or is again."""
        before, self._doubted = self._doubted, self._seen.doubted
        for text in self._doubted:
            if text not in before:
                log.info('sensor_doubted why="%s"', text)
        for text in before:
            if text not in self._doubted:
                log.info('sensor_counts_again was="%s"', text)

    def _decide(self) -> None:
        asked = Asked(
            self._seen,
            sum(self._full.helpers.values()),
            self._read_s,
            self._wall(),
            self.mode,
            self._mode_since_s,
        )
        decision = decide(self._settings, self._state, asked)
        self._state, self._look_s, self._measures = decision.state, decision.look_s, decision.measures
        self._doubts = decision.doubts
        self._publish(decision)
        self._set_timer()

    def _publish(self, decision: Decision) -> None:
        allowance = replace(
            self._full,
            helpers=spread(decision.helpers, self._full.helpers),
            reasons=decision.reasons,
            level=decision.level,
            share=decision.share,
        )
        if allowance == self.allowance:
            return
        before, self.allowance = self.allowance, allowance
        _log_changes(before.reasons, allowance.reasons)
        self._on_allowance(allowance)

    def _set_timer(self) -> None:
        """The next look, and whether others look for us: not while helpers are paused anyway."""
        polls = self._polling and self._measures
        if polls != self._polled:
            self._polled = polls
            self._watch.poll(polls)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [self._mode_ends_s, self._look_s if self._polling else None]
        wanted = [at_s for at_s in times if at_s is not None]
        if wanted:
            delay_s = max(min(wanted) - self._clock(), LOOK_MIN_S)
            self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._polling = self._queued
        if self._queued or (self._mode_ends_s is not None and self._clock() >= self._mode_ends_s):
            self.look()
        else:
            self._set_timer()


def _log_changes(before: tuple[Reason, ...], now: tuple[Reason, ...]) -> None:
    """One line for each reason that is new or gone, none for a value that moved."""
    known, active = {reason.code for reason in before}, {reason.code for reason in now}
    for reason in now:
        if reason.code not in known:
            log.info(
                'reason_began reason=%s value="%s" threshold="%s"',
                reason.code,
                reason.value,
                reason.threshold,
            )
    for reason in before:
        if reason.code not in active:
            log.info("reason_over reason=%s", reason.code)
