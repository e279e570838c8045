"""Turns one observation of the machine into the number of helpers that may run, with reasons.

Pure: no clock, no files. From the same state a worse observation never gives more
helpers (I9). Only time and better observations bring them back, at the latest when
everything has been calm for every hold time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ktaskd.governor.causes import CAUSES, HEAT, MEASURED, WARM
from ktaskd.governor.facts import Effect, Facts
from ktaskd.governor.follow import Cause, Held, follow, next_look_s, settle_s
from ktaskd.governor.meter import FORGET_S, Meter, measure_all, rates_of
from ktaskd.governor.settings import GovernorSettings
from ktaskd.governor.strains import STRAINS, Cap, Felt, feel, step
from ktaskd.model.allowance import Level, Mode, Reason
from ktaskd.model.observation import Heat, Observation

SLOW_POLL_S = 30.0
"""Seconds between two looks while helpers are paused. Readings without events, such as the charge
of a battery, change slowly."""

TRICKLE_MIN = 0.1
"""Percent; not 0, since a job that nobody waits for has to make progress."""


@dataclass(frozen=True, slots=True)
class State:
    """The memory of the policy; a new state remembers nothing.

    Args:
        at_s: when the policy was last asked; None = never.
        held: by name of the cause.
        felt: by name of the strain.
        quota_since_s: when our own CPU limit began to bind, in seconds since the epoch.
    """

    at_s: float | None = None
    meters: Mapping[str, Meter] = field(default_factory=dict)
    held: Mapping[str, Held] = field(default_factory=dict)
    felt: Mapping[str, Felt] = field(default_factory=dict)
    cap: Cap = field(default_factory=Cap)
    quota_since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many helpers may run, and what to remember.

    Args:
        helpers: number on all nodes together.
        duty: fraction of the time that each of them may work, 0 to 1.
        reasons: at most one for each code.
        look_s: when to ask again if no event comes before; None = not needed.
        measures: whether pressure matters now. It does not while helpers are paused anyway.
        doubts: whether a reading waits for a second one, which must not come from a cache.
    """

    helpers: int
    level: Level
    reasons: tuple[Reason, ...]
    state: State
    look_s: float | None
    measures: bool
    duty: float = 1.0
    doubts: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The facts of one question to the policy.

    Args:
        helpers: number that exists, on all nodes.
        now_s: by a clock that goes on while the machine sleeps.
        wall_s: seconds since the epoch.
        mode_since_s: when the mode was set, seconds since the epoch.
    """

    seen: Observation
    helpers: int
    now_s: float
    wall_s: float
    mode: Mode = Mode.AUTO
    mode_since_s: float = 0.0


def decide(settings: GovernorSettings, before: State, asked: Asked) -> Decision:
    """Decide how many helpers may run now.

    Mode ALWAYS ignores everything (battery, heat, even a coming sleep) but the daemon's own
    CPU limit, which the kernel enforces. The state follows the observations in every mode, so
    that a change back to AUTO needs no warm-up.
    """
    base = _base(asked)
    facts, state = _follow(settings, before, asked, base)
    quota = _quota_reasons(state, asked, base)
    if asked.mode is Mode.ALWAYS:
        level = Level.FEWER if base < asked.helpers else Level.RUN
        look_s = asked.now_s + settings.pressure_window_s
        return Decision(base, level, quota, state, look_s, False, doubts=_doubts(state))
    effect = _effect(settings, state)
    helpers = _helpers(effect, state.cap.of(base))
    reasons = (
        *_cause_reasons(facts, state),
        *_strain_reasons(facts, state),
        *quota,
        *_settling_reasons(facts, state),
    )
    level = _level(effect, 0 if state.cap.trickle else helpers, asked.helpers)
    if asked.mode is Mode.PAUSED:
        paused = Reason("ADMIN_PAUSED", "an administrator has paused the helpers", since_s=asked.mode_since_s)
        reasons = _unique((paused, *reasons))
        return Decision(0, Level.PAUSED, reasons, state, None, False, doubts=_doubts(state))
    measures = _measures(settings, state)
    look_s = _look_s(facts, state, asked.now_s, measures)
    duty = max(settings.trickle_percent, TRICKLE_MIN) / 100 if helpers and state.cap.trickle else 1.0
    return Decision(helpers, level, _unique(reasons), state, look_s, measures, duty, _doubts(state))


def spread(helpers: int, there_are: Mapping[int, int]) -> dict[int, int]:
    """Spread helpers over nodes, in proportion to the helpers that each node has.

    Args:
        there_are: number of helpers that exist, by node.

    Uses Sainte-Laguë's divisors, with ties to the lower node: one helper fewer never gives a
    node more, which quotas and remainders could.
    """
    order = sorted(
        ((2 * i + 1) / count, nid, i) for nid, count in there_are.items() for i in range(max(count, 0))
    )
    chosen = [nid for _, nid, _ in order[: max(helpers, 0)]]
    return {nid: chosen.count(nid) for nid in sorted(there_are)}


# -- following -------------------------------------------------------------------


def _base(asked: Asked) -> int:
    """Helpers that our own CPU limit leaves, rounded down so that we never throttle ourselves."""
    cpus = asked.seen.own.cpus
    return asked.helpers if cpus <= 0 else min(asked.helpers, max(1, int(cpus)))


def _follow(settings: GovernorSettings, before: State, asked: Asked, base: int) -> tuple[Facts, State]:
    now_s, wall_s = asked.now_s, asked.wall_s
    blind = _is_blind(settings, before, now_s)
    if blind:
        # Nothing was read in between, so the old pressure says nothing about now.
        before = replace(before, meters={}, felt={}, cap=Cap())
    if asked.seen.thermal.retracted and asked.seen.thermal.heat is Heat.NOMINAL:
        before = _forget_heat(before)
    meters = measure_all(before.meters, asked.seen, now_s, settings.pressure_window_s)
    facts = Facts(asked.seen, rates_of(meters), settings, blind)
    followed = {
        cause.name: follow(cause, before.held.get(cause.name), facts, now_s, wall_s) for cause in CAUSES
    }
    warm = followed[WARM]
    facts = replace(facts, warm=warm is not None and warm.counts)
    cap = step(before.cap, _feel(before, before.cap, facts, now_s, wall_s), facts, base, now_s)
    state = State(
        at_s=now_s,
        meters=meters,
        held={name: held for name, held in followed.items() if held is not None},
        felt=_feel(before, cap, facts, now_s, wall_s),
        cap=cap,
        quota_since_s=(before.quota_since_s or wall_s) if base < asked.helpers else 0.0,
    )
    return facts, state


def _is_blind(settings: GovernorSettings, before: State, now_s: float) -> bool:
    """Whether the last reading is too old to say anything about now."""
    longest_s = max(FORGET_S, 4 * settings.pressure_window_s)
    return before.at_s is None or now_s - before.at_s > longest_s


def _forget_heat(before: State) -> State:
    """Forget that a zone was hot: its reading turned out to be wrong, so nothing has to cool down."""
    held = {name: one for name, one in before.held.items() if name not in HEAT}
    felt = {name: felt for name, felt in before.felt.items() if name != WARM}
    cap = Cap() if set(before.cap.blamed) <= {"THERMAL"} else before.cap
    return replace(before, held=held, felt=felt, cap=cap)


def _doubts(state: State) -> bool:
    return any(held.doubt is not None for held in state.held.values())


def _feel(before: State, cap: Cap, facts: Facts, now_s: float, wall_s: float) -> dict[str, Felt]:
    """Feel every strain, given this cap."""
    capped = cap.most is not None
    return {
        strain.name: feel(strain, before.felt.get(strain.name), facts, now_s, wall_s, capped=capped)
        for strain in STRAINS
    }


def _effects(settings: GovernorSettings, state: State) -> dict[str, Effect]:
    """The effect of each cause that counts, by its name."""
    return {
        cause.name: cause.effect(settings)
        for cause in CAUSES
        if (held := state.held.get(cause.name)) is not None and held.active
    }


def _effect(settings: GovernorSettings, state: State) -> Effect:
    return max(_effects(settings, state).values(), default=Effect.NOTHING)


def _helpers(effect: Effect, most: int) -> int:
    if effect >= Effect.LEADS_ONLY:
        return 0
    return min(most, 1) if effect is Effect.ONE_HELPER else most


def _level(effect: Effect, helpers: int, there_are: int) -> Level:
    if effect >= Effect.LEADS_ONLY:
        return Level.PAUSED if effect is Effect.PAUSE else Level.LEADS_ONLY
    return Level.FEWER if helpers < there_are else Level.RUN


def _measures(settings: GovernorSettings, state: State) -> bool:
    """Whether pressure is to be measured: only causes that need it hold all helpers back."""
    effects = _effects(settings, state).items()
    return all(effect < Effect.LEADS_ONLY or name in MEASURED for name, effect in effects)


def _look_s(facts: Facts, state: State, now_s: float, measures: bool) -> float:
    """The next end of a window, an onset or a hold time; SLOW_POLL_S from now at the latest."""
    settings = facts.settings
    times = [now_s + SLOW_POLL_S]
    if measures:
        began_s = min((meter.base_s for meter in state.meters.values()), default=now_s)
        times.append(began_s + settings.pressure_window_s)
    for cause in CAUSES:
        held = state.held.get(cause.name)
        look_s = next_look_s(cause, held, facts) if held is not None else None
        if look_s is not None:
            times.append(look_s)
    return min(times)


# -- reasons ---------------------------------------------------------------------


def _unique(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """The first reason of each code, which is the one with the strongest effect."""
    return tuple({reason.code: reason for reason in reversed(reasons)}.values())[::-1]


def _counting(facts: Facts, state: State) -> list[tuple[Cause, Held]]:
    return [
        (cause, held)
        for cause in CAUSES
        if (held := state.held.get(cause.name)) is not None
        and held.active
        and cause.effect(facts.settings) is not Effect.NOTHING
    ]


def _cause_reasons(facts: Facts, state: State) -> tuple[Reason, ...]:
    return tuple(
        Reason(cause.code, words.message, words.value, words.threshold, held.active_wall_s)
        for cause, held in _counting(facts, state)
        if not held.over
        for words in (cause.describe(facts),)
    )


def _strain_reasons(facts: Facts, state: State) -> tuple[Reason, ...]:
    if state.cap.most is None:
        return ()
    return tuple(
        Reason(strain.code, words.message, words.value, words.threshold, state.felt[strain.name].since_s)
        for strain in STRAINS
        if state.felt[strain.name].since_s
        for words in (strain.describe(facts),)
    )


def _quota_reasons(state: State, asked: Asked, base: int) -> tuple[Reason, ...]:
    if base >= asked.helpers:
        return ()
    message = "the CPU limit of the daemon's own cgroup allows no more helpers"
    value, threshold = f"{asked.seen.own.cpus:g} CPUs", f"below {asked.helpers} CPUs, one for each helper"
    return (Reason("CGROUP_QUOTA", message, value, threshold, state.quota_since_s),)


def _settling_reasons(facts: Facts, state: State) -> tuple[Reason, ...]:
    """Causes and strains that have ended, but not yet for long enough."""
    settings = facts.settings
    waits = [
        (cause.code, settle_s(cause, held, facts), held.over_wall_s)
        for cause, held in _counting(facts, state)
        if held.over
    ]
    if state.cap.most is not None and not any(felt.since_s for felt in state.felt.values()):
        since_s = max((felt.calm_wall_s for felt in state.felt.values()), default=0.0)
        hold_s = max(
            (strain.hold_s(settings) for strain in STRAINS if strain.code in state.cap.blamed),
            default=settings.pressure_hold_s,
        )
        waits += [("+".join(state.cap.blamed), hold_s, since_s)]
    if not waits:
        return ()
    return (
        Reason(
            "SETTLING",
            "helpers wait until the machine has been calm for long enough",
            ", ".join(dict.fromkeys(code for code, _, _ in waits)),
            f"{max(hold_s for _, hold_s, _ in waits):g} s",
            min(since_s for _, _, since_s in waits),
        ),
    )
