"""Pressure that takes helpers away one by one, or by half, down to a trickle: a table. Pure.

All strains work on one number, the cap, which moves one step at a time: down no sooner than
a window after the last step, up no sooner than a hold time after it, and only when every
strain has been calm for its own hold time. The cap never goes below one helper, since a job
that nobody waits for has to make progress (Fossilize does the same). If others still wait for
CPU, disk or memory next to that helper, it works a small fraction of the time: the trickle.
A low priority alone does not suffice, since it decides which task runs and not whose caches
are warm: a web server that used both CPUs lost a tenth of its requests to one helper that got
a tenth of one CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ktaskd.governor.causes import describe_warm
from ktaskd.governor.facts import Facts, Words
from ktaskd.governor.settings import GovernorSettings

NONE, FEWER, HALVE = 0, 1, 2
"""The steps that a strain can ask for."""


@dataclass(frozen=True, slots=True)
class Strain:
    """One row.

    Args:
        asks: NONE, FEWER or HALVE.
        is_calm: whether this strain lets helpers come back.
        describe: the strain in words.
        step_s: shortest time after a step of the cap before this strain takes another one.
        hold_s: how long it must be calm before a helper comes back.
        trickles: whether it may ask for less than one helper.
    """

    name: str
    code: str
    asks: Callable[[Facts], int]
    is_calm: Callable[[Facts], bool]
    describe: Callable[[Facts], Words]
    step_s: Callable[[GovernorSettings], float]
    hold_s: Callable[[GovernorSettings], float]
    trickles: bool = False


@dataclass(frozen=True, slots=True)
class Felt:
    """The remembered state of a strain.

    Args:
        since_s: when it began, in seconds since the epoch; 0 = it is calm.
        calm_s, calm_wall_s: since when it has been calm, minus infinity if it was never felt;
            None = it is not calm.
    """

    since_s: float = 0.0
    calm_s: float | None = None
    calm_wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cap:
    """The number of helpers that pressure leaves.

    Args:
        most: None = as many as there are.
        changed_s: when it was last changed; None = never.
        blamed: codes of the strains that have lowered it since it was last None.
        trickle: the last helper works only a fraction of the time.
    """

    most: int | None = None
    changed_s: float | None = None
    blamed: tuple[str, ...] = ()
    trickle: bool = False

    def of(self, helpers: int) -> int:
        """How many of this number of helpers the cap leaves."""
        return helpers if self.most is None else min(self.most, helpers)


def feel(
    strain: Strain, before: Felt | None, facts: Facts, now_s: float, wall_s: float, *, capped: bool
) -> Felt:
    """Compute the next state of a strain.

    Args:
        capped: whether helpers were taken away before.
    """
    before = before or Felt(calm_s=float("-inf"))
    if strain.is_calm(facts):
        return before if before.calm_s is not None else Felt(0.0, now_s, wall_s)
    # Between calm and asking, a strain is felt only if it keeps helpers from coming back.
    holds = capped or strain.asks(facts) != NONE
    return Felt(before.since_s or (wall_s if holds else 0.0))


def step(cap: Cap, felt: Mapping[str, Felt], facts: Facts, base: int, now_s: float) -> Cap:
    """The cap from now on.

    Args:
        base: number of helpers that could run without any pressure.
    """
    passed_s = float("inf") if cap.changed_s is None else now_s - cap.changed_s
    have = cap.of(base)
    asking = {
        strain.code: strain.asks(facts)
        for strain in STRAINS
        if passed_s >= strain.step_s(facts.settings) and (have > 1 or strain.trickles)
    }
    worst = max(asking.values(), default=NONE)
    if worst and not cap.trickle:
        codes = (code for code, asks in asking.items() if asks)
        blamed = tuple(dict.fromkeys((*cap.blamed, *codes)))
        if have <= 1:
            return Cap(1, now_s, blamed, trickle=True)
        return Cap(have // 2 if worst == HALVE else have - 1, now_s, blamed)
    if cap.most is None or passed_s < facts.settings.pressure_hold_s or not _all_calm(felt, facts, now_s):
        return cap
    if have + 1 >= base:
        return Cap(None, now_s)
    return Cap(have + 1, now_s, cap.blamed)


def _all_calm(felt: Mapping[str, Felt], facts: Facts, now_s: float) -> bool:
    return all(
        calm_s is not None and now_s - calm_s >= strain.hold_s(facts.settings)
        for strain in STRAINS
        for calm_s in (felt[strain.name].calm_s,)
    )


# -- the rows --------------------------------------------------------------------


def _of_the_time(fraction: float) -> str:
    return f"{fraction * 100:.1f} % of the time"


def _asks_cpu(facts: Facts) -> int:
    percent, settings = facts.rates.cpu * 100, facts.settings
    if percent > settings.cpu_halve_percent:
        return HALVE
    return FEWER if percent > settings.cpu_fewer_percent else NONE


def _describe_cpu(facts: Facts) -> Words:
    settings = facts.settings
    threshold = f"above {settings.cpu_fewer_percent:g} %; clears below {settings.cpu_more_percent:g} %"
    return Words("others wait for CPU time", _of_the_time(facts.rates.cpu), threshold)


def _describe_io(facts: Facts) -> Words:
    settings = facts.settings
    threshold = f"above {settings.io_fewer_percent:g} %; clears below {settings.io_more_percent:g} %"
    return Words(
        "tasks wait for disk I/O (helpers may be among them)", _of_the_time(facts.rates.io), threshold
    )


def _memory_is_short(facts: Facts) -> bool:
    return facts.rates.memory_some * 100 > facts.settings.memory_halve_percent


def _describe_memory(facts: Facts) -> Words:
    limit = facts.settings.memory_halve_percent
    threshold = f"above {limit:g} %; clears at {limit:g} %"
    return Words("tasks wait for memory", _of_the_time(facts.rates.memory_some), threshold)


def _describe_throttled(facts: Facts) -> Words:
    value = f"{facts.rates.throttled:.1f} periods a second"
    return Words("the CPU limit of the daemon's own cgroup throttles it", value, "above 0; clears at 0")


def _window_s(settings: GovernorSettings) -> float:
    return settings.pressure_window_s


def _pressure_hold_s(settings: GovernorSettings) -> float:
    return settings.pressure_hold_s


STRAINS: tuple[Strain, ...] = (
    Strain(
        "warm",
        "THERMAL",
        lambda facts: FEWER if facts.warm else NONE,
        lambda facts: not facts.warm,
        describe_warm,
        lambda settings: settings.heat_step_s,
        lambda settings: settings.heat_hold_s,
    ),
    Strain(
        "cpu",
        "CPU_PRESSURE",
        _asks_cpu,
        lambda facts: facts.rates.cpu * 100 < max(facts.settings.cpu_more_percent, 1e-9),
        _describe_cpu,
        _window_s,
        _pressure_hold_s,
        trickles=True,
    ),
    Strain(
        "io",
        "IO_PRESSURE",
        lambda facts: FEWER if facts.rates.io * 100 > facts.settings.io_fewer_percent else NONE,
        lambda facts: facts.rates.io * 100 < max(facts.settings.io_more_percent, 1e-9),
        _describe_io,
        _window_s,
        _pressure_hold_s,
        trickles=True,
    ),
    Strain(
        "memory",
        "MEMORY_PRESSURE",
        lambda facts: HALVE if _memory_is_short(facts) else NONE,
        lambda facts: not _memory_is_short(facts),
        _describe_memory,
        _window_s,
        lambda settings: settings.memory_hold_s,
        trickles=True,
    ),
    Strain(
        "throttled",
        "CGROUP_THROTTLED",
        lambda facts: FEWER if facts.rates.throttled > 0 else NONE,
        lambda facts: facts.rates.throttled <= 0,
        _describe_throttled,
        _window_s,
        lambda settings: settings.throttled_hold_s,
    ),
)
