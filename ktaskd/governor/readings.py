"""The governor's last readings, in words, for the status. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktaskd.governor.meter import Meter
from ktaskd.model.observation import Observation

NO_SIGNAL = "no signal"


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing that the governor looks at.

    Args:
        name: such as "power" or "cpu pressure".
        value: with its unit; "no signal" if there is nothing to read.
        source: where it was read.
    """

    name: str
    value: str
    source: str


def describe(seen: Observation, meters: Mapping[str, Meter]) -> tuple[Reading, ...]:
    """Everything that was read, always in the same order."""
    power, own = seen.power, seen.own
    cpu_source = seen.pressure.cpu_source or "/proc/pressure, cgroups"
    io_source = seen.pressure.io_source or "/proc/pressure/io"
    memory_source = seen.pressure.memory_source or "/proc/pressure/memory"
    return (
        Reading("power", _power(seen), "/sys/class/power_supply"),
        Reading("battery", _or_none(power.battery_percent, "{:.0f} %"), "/sys/class/power_supply"),
        Reading("power profile", power.profile or NO_SIGNAL, "power-profiles-daemon"),
        Reading("performance", _performance(seen), "power-profiles-daemon"),
        Reading("temperature", _temperature(seen), seen.thermal.where or "/sys/class/thermal"),
        Reading("cpu pressure", _of_the_time(meters.get("cpu")), cpu_source),
        Reading("io pressure", _of_the_time(meters.get("io")), io_source),
        Reading("memory pressure", _of_the_time(meters.get("memory_some")), memory_source),
        Reading("memory pressure full", _of_the_time(meters.get("memory_full")), memory_source),
        Reading("own cpu limit", f"{own.cpus:g} CPUs" if own.cpus else "none", "the daemon's cgroups"),
        Reading("own throttling", f"{own.throttled} periods", "the daemon's cgroups"),
        Reading("sleep", "about to sleep" if seen.sleeping else "none announced", "logind"),
        Reading("user", _user(seen), seen.user.source or "logind, terminals"),
    )


def _power(seen: Observation) -> str:
    if seen.power.on_battery:
        return "battery"
    return "external power, too weak" if seen.power.draining else "not on battery"


def _performance(seen: Observation) -> str:
    if not seen.power.profile:
        return NO_SIGNAL
    return f"degraded: {seen.power.degraded}" if seen.power.degraded else "not degraded"


def _temperature(seen: Observation) -> str:
    thermal = seen.thermal
    heat = thermal.heat.name.lower()
    if thermal.celsius is None:
        return heat if thermal.where else NO_SIGNAL
    trip = "" if thermal.trip_celsius is None else f", trip point at {thermal.trip_celsius:g} °C"
    return f"{heat}, {thermal.celsius:g} °C{trip}"


def _of_the_time(meter: Meter | None) -> str:
    """The rate of a counter of microseconds; "not measured yet" before the first window has passed."""
    if meter is None:
        return NO_SIGNAL
    return "not measured yet" if meter.rate is None else f"{meter.rate / 1e4:.1f} % of the time"


def _user(seen: Observation) -> str:
    """Only read if the configuration asks for it."""
    if seen.user.idle_s is None:
        return NO_SIGNAL
    return f"last input {seen.user.idle_s:.0f} s ago" if seen.user.idle_s else "in use"


def _or_none(value: float | None, form: str) -> str:
    return NO_SIGNAL if value is None else form.format(value)
