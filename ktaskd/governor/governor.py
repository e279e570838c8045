"""The governor: asks the policy whenever something may have changed, and publishes its decision.

It wakes up on its own only while work is queued, or when a mode ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from ktaskd.governor.policy import Asked, Decision, State, decide, spread
from ktaskd.governor.readings import Reading, describe
from ktaskd.governor.settings import RUN, GovernorSettings
from ktaskd.model.allowance import Allowance, Mode, Reason
from ktaskd.model.observation import Observation

log = logging.getLogger(__name__)

AFRESH_S = 0.005
"""Seconds for which a reading counts as fresh."""

SUBMIT_DUTY = 0.05
STATUS_DUTY = 0.5
"""Fraction of the time that fresh readings may take if jobs or status requests come without a
pause. A reading takes about a millisecond, but some batteries answer only after tens of them."""

NO_USER_SIGNAL = (
    "governor.user_active is set, but neither logind (with dbus-fast: install ktaskd[dbus]) nor a terminal "
    "shows when the machine was last used"
)

PRESSURES = {"cpu": "cpu", "io": "io", "memory_some": "memory", "memory_full": "memory_full"}
"""The meters of pressure, with the names of their resources."""

LOOK_MIN_S = 0.01
"""Shortest time to the next look, so that rounding cannot turn it into a busy loop."""


class Watching(Protocol):
    """The governor's view of the machine."""

    def observe(self, own: Collection[int] = (), *, fresh: bool = True, user: bool = False) -> Observation:
        """Read what is true now.

        Args:
            own: our processes, whose use of the machine is not counted as pressure.
            fresh: whether to read also what changes slowly and announces its changes.
            user: whether to find out if somebody is using the machine.
        """
        ...

    def poll(self, on: bool) -> None:
        """Start or stop reading now and then what does not announce its changes."""
        ...


def boot_clock() -> float:
    """Seconds since boot; unlike time.monotonic they go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks that the governor goes by.

    Args:
        boot: seconds by a clock that goes on while the machine sleeps.
        wall: seconds since the epoch.
    """

    boot: Callable[[], float] = boot_clock
    wall: Callable[[], float] = time.time


class Governor:
    """Holds the mode, the state of the policy, and the only timer.

    Attributes:
        allowance: what was published last.
        mode_until_s: when the mode returns to AUTO, in seconds since the epoch; 0 = never.

    Args:
        settings: may be replaced at any time by `configure`.
        full: all workers that exist.
        on_allowance: called with every new allowance; not for `full` at the start.
        own: our processes besides this one.
        clocks: boot time and wall time.
    """

    def __init__(
        self,
        settings: GovernorSettings,
        full: Allowance,
        watch: Watching,
        on_allowance: Callable[[Allowance], None],
        *,
        own: Callable[[], Collection[int]] = tuple,
        clocks: Clocks | None = None,
    ) -> None:
        """Read nothing before the first `refresh`. Needs the running loop."""
        clocks = clocks or Clocks()
        self.allowance = full
        self.mode = Mode.AUTO
        self.mode_until_s = 0.0
        self._settings = settings
        self._full = full
        self._watch = watch
        self._on_allowance = on_allowance
        self._own = own
        self._clock = clocks.boot
        self._wall = clocks.wall
        self._loop = asyncio.get_running_loop()
        self._state = State()
        self._seen = Observation()
        self._read_s = self._fresh_s = float("-inf")
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

    def refresh(self, duty: float = SUBMIT_DUTY) -> Allowance:
        """The allowance for the machine as it is now, or was a moment ago.

        Args:
            duty: fraction of the time that readings may take: a reading counts as fresh for
                long enough to keep to it, at least for AFRESH_S.
        """
        if self._clock() - self._read_s >= max(AFRESH_S, self._cost_s / duty):
            self._read(fresh=True)
        return self.allowance

    def renew(self) -> Allowance:
        """The allowance for a new job, by a reading that is at most one window of pressure old.

        Pressure is counted over such windows, and what changes at once is announced: an event has
        it read at once. So a reading for each of many short jobs would find nothing new.
        """
        if self._clock() - self._fresh_s >= max(self._settings.pressure_window_s, self._cost_s / SUBMIT_DUTY):
            self._read(fresh=True)
        return self.allowance

    def look(self) -> None:
        """Read and decide; to be called when something has changed."""
        self._read(fresh=self._doubts)  # a second reading must not come from a cache

    def _read(self, *, fresh: bool) -> None:
        self._end_mode()
        begin_s = self._clock()
        user = self._settings.user_active != RUN
        self._seen = self._watch.observe(self._own(), fresh=fresh, user=user)
        self._read_s = self._clock()
        if fresh:
            self._fresh_s = self._read_s
            # Smoothed, since now and then another process gets the CPU in the middle of a reading.
            cost_s = self._read_s - begin_s
            self._cost_s = (7 * self._cost_s + cost_s) / 8 if self._cost_s else cost_s
        self._log_doubted()
        self._decide()

    def set_mode(self, mode: Mode, duration_s: float | None = None) -> None:
        """Set the mode; it returns to AUTO after `duration_s` seconds, None = never.

        The time goes on while the machine sleeps.
        """
        self._mode_ends_s = None if duration_s is None else self._clock() + duration_s
        self._mode_since_s = self._wall()
        self.mode_until_s = 0.0 if duration_s is None else self._mode_since_s + duration_s
        self.mode = mode
        log.info("mode_set mode=%s seconds=%s", mode.value, "-" if duration_s is None else f"{duration_s:g}")
        self._read(fresh=True)

    def readings(self) -> tuple[Reading, ...]:
        """The last readings, in words."""
        return describe(self._seen, self._state.meters)

    def pressure(self) -> Mapping[str, float]:
        """The last measured fractions of the time in which others waited, by resource."""
        meters = self._state.meters
        return {
            name: meter.rate / 1e6
            for key, name in PRESSURES.items()
            if (meter := meters.get(key)) is not None and meter.rate is not None
        }

    @property
    def mode_ends_s(self) -> float | None:
        """When the mode returns to AUTO, by the governor's clock; None = never."""
        return self._mode_ends_s

    @property
    def doubted(self) -> tuple[str, ...]:
        """Sensors that are not counted at the last reading, and signals that are configured but missing."""
        unseen = self._settings.user_active != RUN and self._seen.user.idle_s is None
        return self._seen.doubted + ((NO_USER_SIGNAL,) if unseen else ())

    def configure(self, settings: GovernorSettings) -> None:
        """Use these settings from now on."""
        self._settings = settings
        self.look()

    def queued(self, on: bool) -> None:
        """Tell whether work is queued; nothing is polled while there is none.

        Polling does not end at once but with the next look that is due: otherwise each of many
        small jobs in a row would start and end it.
        """
        self._queued = on
        if on and not self._polling:
            self._polling = True
            self._set_timer()

    def close(self) -> None:
        """Stop looking without being asked."""
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
        """Log one line for each sensor that is no longer counted, or is counted again."""
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
            duty=decision.duty,
        )
        if allowance == self.allowance:
            return
        before, self.allowance = self.allowance, allowance
        _log_changes(before.reasons, allowance.reasons)
        self._on_allowance(allowance)

    def _set_timer(self) -> None:
        """Set the timer for the next look, and poll unless helpers are paused anyway."""
        polls = self._polling and self._measures
        if polls != self._polled:
            self._polled = polls
            self._watch.poll(polls)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [self._mode_ends_s, self._look_s if self._polling else None]
        due = [at_s for at_s in times if at_s is not None]
        if due:
            delay_s = max(min(due) - self._clock(), LOOK_MIN_S)
            self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._polling = self._queued
        if self._queued or (self._mode_ends_s is not None and self._clock() >= self._mode_ends_s):
            self.look()
        else:
            self._set_timer()


def _log_changes(before: tuple[Reason, ...], now: tuple[Reason, ...]) -> None:
    """Log one line for each reason that began or ended; none for a value that only changed."""
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
