"""Counters that only grow, as rates over a window. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktaskd.model.observation import Observation, Stall

FORGET_S = 60.0
"""Seconds after which an old count says nothing about now, since nothing was read in between."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A counter at the start of a window, and its rate in the window before.

    Args:
        rate: counts per second; None before the first window has passed.
        fallen_from: the count of the window before, if the counter fell in that window.
    """

    base_s: float
    base: int
    rate: float | None = None
    fallen_from: int | None = None


def measure(before: Meter | None, count: int, now_s: float, window_s: float) -> Meter:
    """Advance a meter to `now_s`; the same meter until its window has passed.

    A counter that fell, for example because a cgroup is gone, counts as not moved. If it is back in the next
    window, one reading was wrong, and it has moved only beyond the count before that.
    """
    if before is None or now_s - before.base_s > max(FORGET_S, 4 * window_s):
        return Meter(now_s, count)
    passed_s = now_s - before.base_s
    if passed_s < window_s:
        return before
    base = before.base
    if before.fallen_from is not None and count >= before.fallen_from:
        base = before.fallen_from
    return Meter(now_s, count, max(0, count - base) / passed_s, before.base if count < before.base else None)


@dataclass(frozen=True, slots=True)
class Rates:
    """How much others suffer, as fractions of the time from 0 to 1; 0 if it is not known.

    Args:
        throttled: periods per second in which our own CPU limit throttled us.
        heat: above 0 if the processor throttled itself.
    """

    cpu: float = 0.0
    io: float = 0.0
    memory_some: float = 0.0
    memory_full: float = 0.0
    throttled: float = 0.0
    heat: float = 0.0


_US = 1e-6
_SCALE = {"cpu": _US, "io": _US, "memory_some": _US, "memory_full": _US, "throttled": 1.0, "heat": 1.0}


def measure_all(
    before: Mapping[str, Meter], observation: Observation, now_s: float, window_s: float
) -> Mapping[str, Meter]:
    """A meter for each counter that has a value, by the names of Rates."""
    return {
        name: measure(before.get(name), count, now_s, window_s)
        for name, count in _counts(observation).items()
        if count is not None
    }


def rates_of(meters: Mapping[str, Meter]) -> Rates:
    """The rates in these meters."""
    return Rates(**{name: (meter.rate or 0.0) * _SCALE[name] for name, meter in meters.items()})


def _counts(observation: Observation) -> dict[str, int | None]:
    pressure = observation.pressure
    return {
        "cpu": _some(pressure.cpu),
        "io": _some(pressure.io),
        "memory_some": _some(pressure.memory),
        "memory_full": None if pressure.memory is None else pressure.memory.full_us,
        "throttled": observation.own.throttled,
        "heat": observation.thermal.throttles,
    }


def _some(stall: Stall | None) -> int | None:
    return None if stall is None else stall.some_us
