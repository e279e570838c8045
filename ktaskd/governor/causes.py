"""States of the machine in which helpers stop or are few at once: a table. Pure.

What is measured by a sensor needs two readings (`governor.follow`); what a program
reports, as the power profile or a coming sleep, counts as soon as it is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ktaskd.governor.facts import Effect, Facts, Told
from ktaskd.governor.follow import Cause
from ktaskd.governor.settings import LEADS, ONE, PAUSE, GovernorSettings
from ktaskd.model.observation import Events, Heat, Observation

DEGRADED_BY_HEAT = "high-operating-temperature"
"""The one value of PerformanceDegraded that means heat (power-profiles-daemon)."""

WARM = "warm"
"""The cause that has no effect of its own: the strain of that name asks whether it is believed."""


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
    """Two windows, since a count of throttling is a rate until the next window has passed."""
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
    """On external power a low charge matters only while it gets lower."""
    percent = facts.seen.power.battery_percent
    more = facts.settings.battery_resume_points if counted else 0.0
    return _drains(facts) and percent is not None and percent < _low_percent(facts) + more


def _low_hold_s(facts: Facts) -> float:
    """External power ends it as it ends running on battery."""
    settings = facts.settings
    return settings.battery_hold_s if _drains(facts) else min(settings.battery_hold_s, settings.ac_hold_s)


def _percent(facts: Facts) -> str:
    percent = facts.seen.power.battery_percent
    return "" if percent is None else f"{percent:.0f} %"


def _tell_low(facts: Facts) -> Told:
    limit = _low_percent(facts)
    over = limit + facts.settings.battery_resume_points
    threshold = f"below {limit:g} %; clears at {over:g} % or on external power"
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


def _at_the_machine(facts: Facts, _: bool) -> bool:
    idle_s = facts.seen.user.idle_s
    return idle_s is not None and idle_s < facts.settings.user_idle_s


def _tell_user(facts: Facts) -> Told:
    idle_s = facts.seen.user.idle_s or 0.0
    value = f"last input {idle_s:.0f} s ago" if idle_s else "in use"
    return Told("somebody is at the machine", value, f"no input for {facts.settings.user_idle_s:g} s")


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
        lambda facts: facts.settings.sleep_hold_s,
    ),
    Cause(
        "battery",
        "ON_BATTERY",
        lambda facts, _: facts.seen.power.on_battery,
        _on_battery,
        lambda facts: Told("the machine runs on battery", _percent(facts), "external power"),
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
        _tell_low,
        _low_hold_s,
        confirm_s=_confirm_s,
        events=_power_events,
    ),
    Cause(
        "draining",
        "DRAINING",
        lambda facts, _: facts.seen.power.draining,
        _on_battery,
        _tell_draining,
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
        lambda facts: Told("the power profile saves power", facts.seen.power.profile, "another profile"),
        lambda _: 0.0,
    ),
    Cause(
        "too hot",
        "THERMAL",
        lambda facts, _: facts.seen.thermal.heat >= Heat.SEVERE,
        lambda _: Effect.PAUSE,
        _tell_heat("it is too hot"),
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
        _tell_heat("it is hot"),
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
        lambda facts: Told("performance is degraded by heat", facts.seen.power.degraded),
        _heat_hold_s,
    ),
    Cause(
        "memory full",
        "MEMORY_PRESSURE",
        lambda facts, _: facts.rates.memory_full * 100 > facts.settings.memory_stop_percent,
        lambda _: Effect.LEADS_ONLY,
        _tell_full,
        lambda facts: facts.settings.memory_hold_s,
    ),
    Cause(
        "user",
        "USER_ACTIVE",
        _at_the_machine,
        _user_active,
        _tell_user,
        lambda _: 0.0,
    ),
    Cause(
        WARM,
        "THERMAL",
        lambda facts, _: facts.seen.thermal.heat >= Heat.LIGHT,
        lambda _: Effect.NOTHING,
        tell_warm,
        lambda _: 0.0,
        confirm_s=_confirm_s,
    ),
)
"""Those of one code stand in order, the one that leaves least first."""

MEASURED = frozenset({"memory full"})
"""Causes that only go if pressure is still measured while they count."""

HEAT = frozenset({"too hot", "hot", WARM})
"""Causes that a thermal zone leads to."""
