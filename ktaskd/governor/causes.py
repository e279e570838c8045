"""States of the machine in which helpers are stopped, or cut to one, at once: a table. Pure.

A sensor needs two readings before it counts (`governor.follow`). A report of a program, such
as the power profile or a coming sleep, counts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ktaskd.governor.facts import Effect, Facts, Words
from ktaskd.governor.follow import Cause
from ktaskd.governor.settings import LEADS, ONE, PAUSE, GovernorSettings
from ktaskd.model.observation import Events, Heat, Observation

DEGRADED_BY_HEAT = "high-operating-temperature"
"""The only value of PerformanceDegraded that means heat. Source: power-profiles-daemon"""

WARM = "warm"
"""A cause without an effect of its own: the strain of this name uses whether it is believed."""


# -- the rows --------------------------------------------------------------------

_ANSWERS: Mapping[str, Effect] = {
    PAUSE: Effect.PAUSE,
    LEADS: Effect.LEADS_ONLY,
    ONE: Effect.ONE_HELPER,
}


def _on_battery(settings: GovernorSettings) -> Effect:
    return _ANSWERS.get(settings.on_battery, Effect.NOTHING)


def _power_saver(settings: GovernorSettings) -> Effect:
    return _ANSWERS.get(settings.power_saver, Effect.NOTHING)


def _user_active(settings: GovernorSettings) -> Effect:
    return _ANSWERS.get(settings.user_active, Effect.NOTHING)


def _confirm_s(settings: GovernorSettings) -> float:
    return settings.confirm_s


def _confirm_heat_s(settings: GovernorSettings) -> float:
    """At least one window, since a count of throttling events stays a rate until the next window ends."""
    return max(settings.confirm_s, settings.pressure_window_s) if settings.confirm_s else 0.0


def _power_events(seen: Observation) -> Events:
    return seen.power.events


def _thermal_events(seen: Observation) -> Events:
    return seen.thermal.events


def _critical(facts: Facts) -> bool:
    return facts.seen.thermal.critical


def _ac_hold_s(facts: Facts) -> float:
    return facts.settings.ac_hold_s


def _heat_hold_s(facts: Facts) -> float:
    return facts.settings.heat_hold_s


def _saves(facts: Facts) -> bool:
    return facts.seen.power.profile == "power-saver"


def _low_percent(facts: Facts) -> float:
    settings = facts.settings
    return settings.battery_saver_percent if _saves(facts) else settings.battery_low_percent


def _drains(facts: Facts) -> bool:
    return facts.seen.power.on_battery or facts.seen.power.draining


def _battery_low(facts: Facts, counted: bool) -> bool:
    """On external power a low charge matters only while it falls further."""
    percent = facts.seen.power.battery_percent
    more = facts.settings.battery_resume_points if counted else 0.0
    return _drains(facts) and percent is not None and percent < _low_percent(facts) + more


def _low_hold_s(facts: Facts) -> float:
    """External power ends a low charge as it ends running on battery."""
    settings = facts.settings
    return settings.battery_hold_s if _drains(facts) else min(settings.battery_hold_s, settings.ac_hold_s)


def _percent(facts: Facts) -> str:
    percent = facts.seen.power.battery_percent
    return "" if percent is None else f"{percent:.0f} %"


def _describe_low(facts: Facts) -> Words:
    limit = _low_percent(facts)
    over = limit + facts.settings.battery_resume_points
    threshold = f"below {limit:g} %; clears at {over:g} % or on external power"
    return Words("the battery is low", _percent(facts), threshold)


def _describe_draining(facts: Facts) -> Words:
    threshold = f"discharging for {facts.settings.draining_s:g} s; clears when it stops discharging"
    return Words(
        "the charger is too weak or the UPS has no power, so the battery discharges",
        _percent(facts),
        threshold,
    )


def _throttles(facts: Facts, _: bool) -> bool:
    return facts.seen.thermal.heat >= Heat.MODERATE or facts.rates.heat > 0


def _describe_heat(message: str) -> Callable[[Facts], Words]:
    def describe(facts: Facts) -> Words:
        thermal = facts.seen.thermal
        value = "" if thermal.celsius is None else f"{thermal.celsius:g} °C"
        value = " ".join(filter(None, [thermal.where, value]))
        trip = "" if thermal.trip_celsius is None else f"trip point at {thermal.trip_celsius:g} °C"
        if thermal.heat < Heat.LIGHT and facts.rates.heat:
            value, trip = "the processor throttles itself", ""
        return Words(message, value, trip)

    return describe


describe_warm = _describe_heat("the machine is getting hot")


def _is_in_use(facts: Facts, _: bool) -> bool:
    idle_s = facts.seen.user.idle_s
    return idle_s is not None and idle_s < facts.settings.user_idle_s


def _describe_user(facts: Facts) -> Words:
    idle_s = facts.seen.user.idle_s or 0.0
    value = f"last input {idle_s:.0f} s ago" if idle_s else "in use"
    return Words(
        "somebody is using the machine", value, f"clears after {facts.settings.user_idle_s:g} s without input"
    )


def _describe_full(facts: Facts) -> Words:
    limit = facts.settings.memory_stop_percent
    return Words(
        "all tasks wait for memory",
        f"{facts.rates.memory_full * 100:.1f} % of the time",
        f"above {limit:g} %; clears at {limit:g} %",
    )


CAUSES: tuple[Cause, ...] = (
    Cause(
        "sleep",
        "SLEEP",
        lambda facts, _: facts.seen.sleeping,
        lambda _: Effect.PAUSE,
        lambda _: Words("the machine is about to sleep"),
        lambda facts: facts.settings.sleep_hold_s,
    ),
    Cause(
        "battery",
        "ON_BATTERY",
        lambda facts, _: facts.seen.power.on_battery,
        _on_battery,
        lambda facts: Words("the machine runs on battery", _percent(facts), "clears on external power"),
        _ac_hold_s,
        confirm_s=_confirm_s,
        events=_power_events,
        switches=True,
    ),
    Cause(
        "battery low",
        "BATTERY_LOW",
        _battery_low,
        lambda _: Effect.PAUSE,
        _describe_low,
        _low_hold_s,
        confirm_s=_confirm_s,
        events=_power_events,
    ),
    Cause(
        "draining",
        "DRAINING",
        lambda facts, _: facts.seen.power.draining,
        _on_battery,
        _describe_draining,
        _ac_hold_s,
        lambda settings: settings.draining_s,
        _confirm_s,
        _power_events,
    ),
    Cause(
        "power saver",
        "POWER_SAVER",
        lambda facts, _: _saves(facts),
        _power_saver,
        lambda facts: Words(
            "the power profile saves power", facts.seen.power.profile, "clears with another profile"
        ),
        lambda _: 0.0,
    ),
    Cause(
        "too hot",
        "THERMAL",
        lambda facts, _: facts.seen.thermal.heat >= Heat.SEVERE,
        lambda _: Effect.PAUSE,
        _describe_heat("the machine is too hot"),
        _heat_hold_s,
        confirm_s=_confirm_s,
        events=_thermal_events,
        at_once=_critical,
    ),
    Cause(
        "hot",
        "THERMAL",
        _throttles,
        lambda _: Effect.ONE_HELPER,
        _describe_heat("the machine is hot"),
        _heat_hold_s,
        confirm_s=_confirm_heat_s,
        events=_thermal_events,
        at_once=_critical,
    ),
    Cause(
        "degraded",
        "PERFORMANCE_DEGRADED",
        lambda facts, _: facts.seen.power.degraded == DEGRADED_BY_HEAT,
        lambda _: Effect.ONE_HELPER,
        lambda facts: Words("performance is degraded by heat", facts.seen.power.degraded),
        _heat_hold_s,
    ),
    Cause(
        "memory full",
        "MEMORY_PRESSURE",
        lambda facts, _: facts.rates.memory_full * 100 > facts.settings.memory_stop_percent,
        lambda _: Effect.LEADS_ONLY,
        _describe_full,
        lambda facts: facts.settings.memory_hold_s,
    ),
    Cause(
        "user",
        "USER_ACTIVE",
        _is_in_use,
        _user_active,
        _describe_user,
        lambda _: 0.0,
    ),
    Cause(
        WARM,
        "THERMAL",
        lambda facts, _: facts.seen.thermal.heat >= Heat.LIGHT,
        lambda _: Effect.NOTHING,
        describe_warm,
        lambda _: 0.0,
        confirm_s=_confirm_s,
    ),
)
"""Causes with the same code are in order of their effect, the strongest first."""

MEASURED = frozenset({"memory full"})
"""Causes that can only end if pressure is still measured while they count."""

HEAT = frozenset({"too hot", "hot", WARM})
"""Causes that a thermal zone can raise."""
