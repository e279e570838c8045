"""States of the machine in which helpers stop or are few at once: a table. Pure.

A cause counts as soon as it is seen (or has been for its `onset_s`), and ends
only when it has been gone for its `hold_s`, so that nothing flaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ktaskd.governor.meter import Rates
from ktaskd.governor.settings import LEADS, PAUSE, GovernorSettings
from ktaskd.model.observation import Heat, Observation

DEGRADED_BY_HEAT = "high-operating-temperature"
"""The one value of PerformanceDegraded that means heat (power-profiles-daemon)."""


class Effect(IntEnum):
    """What a cause leaves running; a higher one leaves less."""

    NOTHING = 0
    ONE_HELPER = 1
    LEADS_ONLY = 2
    PAUSE = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a cause is judged by."""

    seen: Observation
    rates: Rates
    settings: GovernorSettings


@dataclass(frozen=True, slots=True)
class Told:
    """A cause in words."""

    message: str
    value: str = ""
    threshold: str = ""


def _never_s(_: GovernorSettings) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Cause:
    """One row.

    Args:
        name: unique.
        is_so: whether it is so now; told too whether it has counted until now.
        onset_s: how long it must be so before it counts.
        hold_s: how long it must be gone before it no longer counts.
    """

    name: str
    code: str
    is_so: Callable[[Facts, bool], bool]
    effect: Callable[[GovernorSettings], Effect]
    tell: Callable[[Facts], Told]
    hold_s: Callable[[GovernorSettings], float]
    onset_s: Callable[[GovernorSettings], float] = _never_s


@dataclass(frozen=True, slots=True)
class Held:
    """What is remembered of a cause.

    Args:
        seen_s: since when it is so without a break, or was so at last.
        counts: whether it has outlasted its onset.
        since_s: seconds since the epoch when it began to count, or was seen.
        gone_s, gone_wall_s: since when it is no longer so; None = it is so.
    """

    seen_s: float
    counts: bool
    since_s: float
    gone_s: float | None = None
    gone_wall_s: float = 0.0


def follow(cause: Cause, before: Held | None, facts: Facts, now_s: float, wall_s: float) -> Held | None:
    """What to remember of a cause from now on; None = it neither is so nor counts."""
    counted = before is not None and before.counts
    if cause.is_so(facts, counted):
        return _seen(cause.onset_s(facts.settings), before, now_s, wall_s)
    if before is None or not counted:
        return None
    gone_s = now_s if before.gone_s is None else before.gone_s
    if now_s - gone_s >= cause.hold_s(facts.settings):
        return None
    gone_wall_s = wall_s if before.gone_s is None else before.gone_wall_s
    return Held(before.seen_s, True, before.since_s, gone_s, gone_wall_s)


def _seen(onset_s: float, before: Held | None, now_s: float, wall_s: float) -> Held:
    if before is None:
        return Held(now_s, onset_s <= 0, wall_s)
    if before.gone_s is not None:  # it came back while it still counted
        return Held(now_s, True, wall_s)
    return Held(before.seen_s, before.counts or now_s - before.seen_s >= onset_s, before.since_s)


def next_look_s(cause: Cause, held: Held, settings: GovernorSettings) -> float | None:
    """When the passing of time alone changes what the cause does; None = never."""
    if held.gone_s is not None:
        return held.gone_s + cause.hold_s(settings)
    return None if held.counts else held.seen_s + cause.onset_s(settings)


# -- the rows --------------------------------------------------------------------

_ANSWERS: Mapping[str, Effect] = {PAUSE: Effect.PAUSE, LEADS: Effect.LEADS_ONLY}


def _on_battery(settings: GovernorSettings) -> Effect:
    return _ANSWERS.get(settings.on_battery, Effect.NOTHING)


def _power_saver(settings: GovernorSettings) -> Effect:
    return _ANSWERS.get(settings.power_saver, Effect.NOTHING)


def _saves(facts: Facts) -> bool:
    return facts.seen.power.profile == "power-saver"


def _low_percent(facts: Facts) -> float:
    settings = facts.settings
    return settings.battery_saver_percent if _saves(facts) else settings.battery_low_percent


def _battery_low(facts: Facts, counted: bool) -> bool:
    percent = facts.seen.power.battery_percent
    more = facts.settings.battery_resume_points if counted else 0.0
    return percent is not None and percent < _low_percent(facts) + more


def _percent(facts: Facts) -> str:
    percent = facts.seen.power.battery_percent
    return "" if percent is None else f"{percent:.0f} %"


def _tell_low(facts: Facts) -> Told:
    limit = _low_percent(facts)
    threshold = f"{limit:g} %, over at {limit + facts.settings.battery_resume_points:g} %"
    return Told("the battery is low", _percent(facts), threshold)


def _tell_draining(facts: Facts) -> Told:
    threshold = f"for {facts.settings.draining_s:g} s"
    return Told("the charger is too weak, or a UPS has no power: it discharges", _percent(facts), threshold)


def _throttles(facts: Facts, _: bool) -> bool:
    return facts.seen.thermal.heat >= Heat.MODERATE or facts.rates.heat > 0


def _tell_heat(message: str) -> Callable[[Facts], Told]:
    def tell(facts: Facts) -> Told:
        thermal = facts.seen.thermal
        value = "" if thermal.celsius is None else f"{thermal.celsius:g} °C"
        value = " ".join(filter(None, [thermal.where, value]))
        trip = "" if thermal.trip_celsius is None else f"trip point at {thermal.trip_celsius:g} °C"
        if thermal.heat < Heat.LIGHT and facts.rates.heat:
            value, trip = "the processor slows itself down", ""
        return Told(message, value, trip)

    return tell


tell_warm = _tell_heat("it gets hot")


def _tell_full(facts: Facts) -> Told:
    limit = facts.settings.memory_stop_percent
    return Told(
        "everybody waits for memory", f"{facts.rates.memory_full * 100:.1f} % of the time", f"{limit:g} %"
    )


CAUSES: tuple[Cause, ...] = (
    Cause(
        "sleep",
        "SLEEP",
        lambda facts, _: facts.seen.sleeping,
        lambda _: Effect.PAUSE,
        lambda _: Told("the machine is about to sleep"),
        lambda settings: settings.sleep_hold_s,
    ),
    Cause(
        "battery",
        "ON_BATTERY",
        lambda facts, _: facts.seen.power.on_battery,
        _on_battery,
        lambda facts: Told("the machine runs on battery", _percent(facts), "external power"),
        lambda settings: settings.ac_hold_s,
    ),
    Cause(
        "battery low",
        "BATTERY_LOW",
        _battery_low,
        lambda _: Effect.PAUSE,
        _tell_low,
        lambda settings: settings.battery_hold_s,
    ),
    Cause(
        "draining",
        "DRAINING",
        lambda facts, _: facts.seen.power.draining,
        _on_battery,
        _tell_draining,
        lambda settings: settings.ac_hold_s,
        lambda settings: settings.draining_s,
    ),
    Cause(
        "power saver",
        "POWER_SAVER",
        lambda facts, _: _saves(facts),
        _power_saver,
        lambda facts: Told("the power profile saves power", facts.seen.power.profile, "another profile"),
        lambda _: 0.0,
    ),
    Cause(
        "too hot",
        "THERMAL",
        lambda facts, _: facts.seen.thermal.heat >= Heat.SEVERE,
        lambda _: Effect.PAUSE,
        _tell_heat("it is too hot"),
        lambda settings: settings.heat_hold_s,
    ),
    Cause(
        "hot",
        "THERMAL",
        _throttles,
        lambda _: Effect.ONE_HELPER,
        _tell_heat("it is hot"),
        lambda settings: settings.heat_hold_s,
    ),
    Cause(
        "degraded",
        "PERFORMANCE_DEGRADED",
        lambda facts, _: facts.seen.power.degraded == DEGRADED_BY_HEAT,
        lambda _: Effect.ONE_HELPER,
        lambda facts: Told("performance is degraded by heat", facts.seen.power.degraded),
        lambda settings: settings.heat_hold_s,
    ),
    Cause(
        "memory full",
        "MEMORY_PRESSURE",
        lambda facts, _: facts.rates.memory_full * 100 > facts.settings.memory_stop_percent,
        lambda _: Effect.LEADS_ONLY,
        _tell_full,
        lambda settings: settings.memory_hold_s,
    ),
)
"""Those of one code stand in order, the one that leaves least first."""

MEASURED = frozenset({"memory full"})
"""Causes that only go if pressure is still measured while they count."""
