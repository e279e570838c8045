"""Machines in any state, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from ktaskd.governor.policy import Asked, Decision, State, decide
from ktaskd.governor.settings import GovernorSettings
from ktaskd.model.allowance import Mode
from ktaskd.model.observation import (
    Events,
    Heat,
    Observation,
    OwnLimit,
    Power,
    Presence,
    Pressure,
    Stall,
    Thermal,
)

SETTINGS = GovernorSettings(user_active="one")
HELPERS = 8
CALM = Observation()

WALL_S = 1_800_000_000.0

_percents = st.none() | st.floats(0, 100)
_profiles = st.sampled_from(["", "balanced", "power-saver"])
_degraded = st.sampled_from(["", "lap-detected", "high-operating-temperature"])
powers = st.builds(Power, st.booleans(), _percents, st.booleans(), _profiles, _degraded)


@dataclass(frozen=True)
class Moment:
    """The state of the machine, this long after the moment before.

    Args:
        moved: how far each counter has moved since then, by its name in Rates.
        announced: whether the kernel sent an event about power and heat.
        idle_s: for how long nobody has used the machine.
    """

    passed_s: float
    power: Power
    heat: Heat
    cpus: float
    sleeping: bool
    moved: tuple[float, ...]
    signals: tuple[bool, bool, bool]
    announced: bool = False
    critical: bool = False
    idle_s: float | None = None


_shares = st.just(0.0) | st.floats(0, 1)
moments = st.builds(
    Moment,
    st.sampled_from([0.1, 1.0, 2.0, 3.0, 20.0, 30.0, 300.0]) | st.floats(0.01, 100),
    st.just(Power()) | powers,
    st.sampled_from(Heat),
    st.just(0.0) | st.floats(0.1, 12),
    st.booleans(),
    st.tuples(
        _shares, _shares, _shares, _shares, st.sampled_from([0.0, 0.0, 2.0]), st.sampled_from([0.0, 1])
    ),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.booleans(),
    st.booleans(),
    st.none() | st.sampled_from([0.0, 179.0, 180.0]),
)
histories = st.lists(moments, max_size=8)

pressed = st.builds(
    Moment,
    st.sampled_from([0.3, 1.0, 2.0, 2.5, 7.0]),
    st.just(Power()),
    st.sampled_from([Heat.NOMINAL, Heat.NOMINAL, Heat.NOMINAL, Heat.LIGHT]),
    st.just(0.0),
    st.just(False),
    st.tuples(_shares, _shares, _shares, st.just(0.0), st.sampled_from([0.0, 0.0, 1.0]), st.just(0.0)),
    st.just((True, True, True)),
)
"""Only pressure, read often."""


class Replayed:
    """A machine with running counters, and the state of the policy."""

    def __init__(self, settings: GovernorSettings = SETTINGS, helpers: int = HELPERS) -> None:
        self.settings = settings
        self.helpers = helpers
        self.now_s = 1000.0
        self.state = State()
        self.counts = [1e6] * 6
        self.events = 0

    def observe(self, moment: Moment) -> Observation:
        """The machine at this moment; moves its counters."""
        self.now_s += moment.passed_s
        scales = (1e6, 1e6, 1e6, 1e6, 1, 1)
        for i, scale in enumerate(scales):
            self.counts[i] += moment.moved[i] * scale * moment.passed_s
        cpu, io, some, full, throttled, heat = (round(count) for count in self.counts)
        has_cpu, has_io, has_memory = moment.signals
        self.events += moment.announced
        events = Events(self.events, moment.announced)
        critical = moment.critical and moment.heat is Heat.SEVERE
        return Observation(
            replace(moment.power, events=events),
            Thermal(moment.heat, throttles=heat, critical=critical, events=events),
            Pressure(
                Stall(cpu) if has_cpu else None,
                "/proc/pressure/cpu" if has_cpu else "",
                Stall(io) if has_io else None,
                Stall(some, full) if has_memory else None,
            ),
            OwnLimit(moment.cpus, throttled),
            moment.sleeping,
            Presence(moment.idle_s),
        )

    def live(self, moment: Moment) -> Decision:
        return self.keep(self.judge(self.observe(moment)))

    def judge(self, seen: Observation, mode: Mode = Mode.AUTO) -> Decision:
        """Ask the policy about the machine without remembering the answer."""
        asked = Asked(seen, self.helpers, self.now_s, WALL_S + self.now_s, mode, 5.0)
        return decide(self.settings, self.state, asked)

    def keep(self, decision: Decision) -> Decision:
        self.state = decision.state
        return decision


def _more(stall: Stall | None, us: int) -> Stall:
    return Stall((stall.some_us if stall else 0) + us, (stall.full_us or 0) + us if stall else us)


def _pressure(name: str) -> Callable[[Observation, float], Observation]:
    def worse(seen: Observation, by: float) -> Observation:
        stall = _more(getattr(seen.pressure, name), int(by * 1e8))
        return replace(seen, pressure=replace(seen.pressure, **{name: stall}))  # type: ignore[arg-type]

    return worse


def _emptier(seen: Observation, by: float) -> Observation:
    percent = seen.power.battery_percent
    lower = (100.0 if percent is None else percent) * (1 - by)
    return replace(seen, power=replace(seen.power, battery_percent=lower))


def _hotter(seen: Observation, by: float) -> Observation:
    heat = Heat(max(seen.thermal.heat, round(by * 3)))
    return replace(seen, thermal=replace(seen.thermal, heat=heat))


def _critical(seen: Observation, _: float) -> Observation:
    return replace(seen, thermal=replace(seen.thermal, heat=Heat.SEVERE, critical=True))


def _announced(part: str) -> Callable[[Observation, float], Observation]:
    def worse(seen: Observation, _: float) -> Observation:
        of = getattr(seen, part)
        return replace(seen, **{part: replace(of, events=Events(of.events.count + 1, True))})

    return worse


def _nearer(seen: Observation, by: float) -> Observation:
    idle_s = seen.user.idle_s
    return replace(seen, user=replace(seen.user, idle_s=(200.0 if idle_s is None else idle_s) * (1 - by)))


def _slower(seen: Observation, by: float) -> Observation:
    return replace(seen, thermal=replace(seen.thermal, throttles=seen.thermal.throttles + int(by * 9)))


def _tighter(seen: Observation, by: float) -> Observation:
    return replace(seen, own=replace(seen.own, cpus=(seen.own.cpus or 100.0) * max(1 - by, 0.001)))


def _throttled(seen: Observation, by: float) -> Observation:
    return replace(seen, own=replace(seen.own, throttled=seen.own.throttled + int(by * 9)))


def _power(**change: object) -> Callable[[Observation, float], Observation]:
    return lambda seen, _: replace(seen, power=replace(seen.power, **change))  # type: ignore[arg-type]


WORSE: dict[str, Callable[[Observation, float], Observation]] = {
    "on battery": _power(on_battery=True),
    "battery percent": _emptier,
    "draining": _power(draining=True),
    "profile": _power(profile="power-saver"),
    "degraded": _power(degraded="high-operating-temperature"),
    "heat": _hotter,
    "throttles": _slower,
    "cpu": _pressure("cpu"),
    "io": _pressure("io"),
    "memory": _pressure("memory"),
    "own cpus": _tighter,
    "own throttled": _throttled,
    "critical": _critical,
    "power events": _announced("power"),
    "thermal events": _announced("thermal"),
    "user": _nearer,
    "sleeping": lambda seen, _: replace(seen, sleeping=True),
}
"""Changes that make an observation worse, by the field that they change."""
