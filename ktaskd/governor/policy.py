"""What is read of the machine to how many helpers may run, and why. Pure: no clock, no files.

Of one state, a worse observation never gives more helpers (I9). Time alone and
better observations bring them back: at the latest when everything has been calm
for every hold time.
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
"""Between two looks while helpers are paused: what has no event, as the charge of a
battery, changes slowly (power-and-cgroups 2.3 and 6: not more often than each 30 s)."""

TRICKLE_MIN = 0.1
"""Percent: a job that nobody waits for must get on."""


@dataclass(frozen=True, slots=True)
class State:
    """What the policy remembers; a new one remembers nothing.

    Args:
        at_s: when it was last asked; None = never.
        held: by name of the cause.
        felt: by name of the strain.
        quota_since_s: seconds since the epoch when the own CPU limit began to bind.
    """

    at_s: float | None = None
    meters: Mapping[str, Meter] = field(default_factory=dict)
    held: Mapping[str, Held] = field(default_factory=dict)
    felt: Mapping[str, Felt] = field(default_factory=dict)
    cap: Cap = field(default_factory=Cap)
    quota_since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What may run, and what to remember.

    Args:
        helpers: of all nodes together.
        share: of the time that each of them may work, 0 to 1.
        reasons: at most one for each code.
        look_s: when to ask again although nothing is told; None = no need to.
        measures: whether pressure matters now; not where helpers are paused anyway.
        doubts: whether a reading waits for a second one, which then has to be a new one.
    """

    helpers: int
    level: Level
    reasons: tuple[Reason, ...]
    state: State
    look_s: float | None
    measures: bool
    share: float = 1.0
    doubts: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """The question.

    Args:
        helpers: that there are, on all nodes.
        now_s: on a clock that goes on while the machine sleeps.
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
    """How many helpers may run now.

    Mode ALWAYS means always: on battery, when hot, even when the machine is about
    to sleep. Only the daemon's own CPU limit is a fact and still holds. What was
    seen is followed in every mode, so that AUTO takes over where it would be.
    """
    base = _base(asked)
    facts, state = _follow(settings, before, asked, base)
    quota = _tell_quota(state, asked, base)
    if asked.mode is Mode.ALWAYS:
        level = Level.FEWER if base < asked.helpers else Level.RUN
        look_s = asked.now_s + settings.pressure_window_s
        return Decision(base, level, quota, state, look_s, False, doubts=_doubts(state))
    effect = _effect(settings, state)
    helpers = _helpers(effect, state.cap.of(base))
    reasons = (
        *_tell_causes(facts, state),
        *_tell_strains(facts, state),
        *quota,
        *_tell_settling(facts, state),
    )
    level = _level(effect, 0 if state.cap.trickle else helpers, asked.helpers)
    if asked.mode is Mode.PAUSED:
        told = Reason("ADMIN_PAUSED", "an administrator has paused the helpers", since_s=asked.mode_since_s)
        reasons = _unique((told, *reasons))
        return Decision(0, Level.PAUSED, reasons, state, None, False, doubts=_doubts(state))
    measures = _measures(settings, state)
    look_s = _look_s(facts, state, asked.now_s, measures)
    share = max(settings.trickle_percent, TRICKLE_MIN) / 100 if helpers and state.cap.trickle else 1.0
    return Decision(helpers, level, _unique(reasons), state, look_s, measures, share, _doubts(state))


def spread(helpers: int, places: Mapping[int, int]) -> dict[int, int]:
    """So many helpers over nodes, each node's share as its part of all places.

    Args:
        places: helpers that there are, by node.

    By Sainte-Laguë's divisors, ties to the lower node: one helper fewer never
    gives any node more, which quotas and remainders would.
    """
    order = sorted(
        ((2 * i + 1) / count, nid, i) for nid, count in places.items() for i in range(max(count, 0))
    )
    chosen = [nid for _, nid, _ in order[: max(helpers, 0)]]
    return {nid: chosen.count(nid) for nid in sorted(places)}


# -- following -------------------------------------------------------------------


def _base(asked: Asked) -> int:
    """Helpers that there can be at all: floor, so that we never cause our own throttling."""
    cpus = asked.seen.own.cpus
    return asked.helpers if cpus <= 0 else min(asked.helpers, max(1, int(cpus)))


def _follow(settings: GovernorSettings, before: State, asked: Asked, base: int) -> tuple[Facts, State]:
    now_s, wall_s = asked.now_s, asked.wall_s
    blind = _is_blind(settings, before, now_s)
    if blind:
        # Nobody has looked since: the pressure of then says nothing.
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
    """Whether nobody has looked for so long that the last reading says nothing about now."""
    longest_s = max(FORGET_S, 4 * settings.pressure_window_s)
    return before.at_s is None or now_s - before.at_s > longest_s


def _forget_heat(before: State) -> State:
    """As if no zone had been hot: the one that was is wrong, and nothing has to cool down."""
    held = {name: one for name, one in before.held.items() if name not in HEAT}
    felt = {name: felt for name, felt in before.felt.items() if name != WARM}
    cap = Cap() if set(before.cap.blamed) <= {"THERMAL"} else before.cap
    return replace(before, held=held, felt=felt, cap=cap)


def _doubts(state: State) -> bool:
    return any(held.doubt is not None for held in state.held.values())


def _feel(before: State, cap: Cap, facts: Facts, now_s: float, wall_s: float) -> dict[str, Felt]:
    """What is felt beside this cap."""
    capped = cap.most is not None
    return {
        strain.name: feel(strain, before.felt.get(strain.name), facts, now_s, wall_s, capped=capped)
        for strain in STRAINS
    }


def _effects(settings: GovernorSettings, state: State) -> dict[str, Effect]:
    """What each cause that counts leaves, by its name."""
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
    """Whether no helper is held back but by what is measured."""
    effects = _effects(settings, state).items()
    return all(effect < Effect.LEADS_ONLY or name in MEASURED for name, effect in effects)


def _look_s(facts: Facts, state: State, now_s: float, measures: bool) -> float:
    """The next end of a window, onset or hold; while paused by what has events, the slow poll."""
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


# -- telling ---------------------------------------------------------------------


def _unique(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """The first of each code: the one that leaves least."""
    return tuple({reason.code: reason for reason in reversed(reasons)}.values())[::-1]


def _counting(facts: Facts, state: State) -> list[tuple[Cause, Held]]:
    return [
        (cause, held)
        for cause in CAUSES
        if (held := state.held.get(cause.name)) is not None
        and held.active
        and cause.effect(facts.settings) is not Effect.NOTHING
    ]


def _tell_causes(facts: Facts, state: State) -> tuple[Reason, ...]:
    return tuple(
        Reason(cause.code, told.message, told.value, told.threshold, held.active_wall_s)
        for cause, held in _counting(facts, state)
        if not held.over
        for told in (cause.tell(facts),)
    )


def _tell_strains(facts: Facts, state: State) -> tuple[Reason, ...]:
    if state.cap.most is None:
        return ()
    return tuple(
        Reason(strain.code, told.message, told.value, told.threshold, state.felt[strain.name].since_s)
        for strain in STRAINS
        if state.felt[strain.name].since_s
        for told in (strain.tell(facts),)
    )


def _tell_quota(state: State, asked: Asked, base: int) -> tuple[Reason, ...]:
    if base >= asked.helpers:
        return ()
    message = "the CPU limit of the daemon's own cgroup leaves no more"
    value, threshold = f"{asked.seen.own.cpus:g} CPUs", f"{asked.helpers} helpers"
    return (Reason("CGROUP_QUOTA", message, value, threshold, state.quota_since_s),)


def _tell_settling(facts: Facts, state: State) -> tuple[Reason, ...]:
    """What is over, but not yet for long enough."""
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
            "what held helpers back is over, and has to stay so for a while",
            ", ".join(dict.fromkeys(code for code, _, _ in waits)),
            f"{max(hold_s for _, hold_s, _ in waits):g} s",
            min(since_s for _, _, since_s in waits),
        ),
    )
