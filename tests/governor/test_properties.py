"""Properties of the policy that hold for every machine.

Tests: ktaskd/governor/policy.py
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.governor.policy import Decision, spread
from ktaskd.governor.settings import ORDERED, GovernorSettings
from ktaskd.model.allowance import Level, Mode
from ktaskd.model.observation import Heat, Observation, OwnLimit, Power, Presence, Pressure, Thermal
from tests.governor.given import (
    CALM,
    HELPERS,
    SETTINGS,
    WORSE,
    Moment,
    Replayed,
    histories,
    moments,
    powers,
    pressed,
)

amounts = st.floats(0, 1)
places = st.dictionaries(st.integers(0, 7), st.integers(0, 9), min_size=1, max_size=4)


def no_more(worse: Decision, than: Decision) -> bool:
    less = worse.helpers * worse.duty <= than.helpers * than.duty
    return less and worse.helpers <= than.helpers and worse.level >= than.level


@pytest.mark.parametrize("field", WORSE)
@settings(max_examples=40)  # of each of 17 fields
@given(histories, moments, amounts)
def test_allowance_when_one_thing_is_worse_then_never_more(
    field: str, history: list[Moment], moment: Moment, amount: float
) -> None:
    machine = Replayed()
    for one in history:
        machine.live(one)
    seen = machine.observe(moment)
    worse = WORSE[field](seen, amount)
    assert no_more(machine.judge(worse), machine.judge(seen)), (seen, worse)


@given(histories, moments, st.lists(st.tuples(st.sampled_from(sorted(WORSE)), amounts)), places)
def test_allowance_when_many_things_are_worse_then_never_more_on_any_node(
    history: list[Moment], moment: Moment, changes: list[tuple[str, float]], there_are: dict[int, int]
) -> None:
    """Guards: I9"""
    machine = Replayed(helpers=sum(there_are.values()))
    for one in history:
        machine.live(one)
    worse = seen = machine.observe(moment)
    for field, amount in changes:
        worse = WORSE[field](worse, amount)
    bad, good = machine.judge(worse), machine.judge(seen)
    assert no_more(bad, good)
    less, more = spread(bad.helpers, there_are), spread(good.helpers, there_are)
    assert all(less[nid] <= more[nid] for nid in there_are)


def test_worse_when_listed_then_every_field_of_an_observation_is_in_it() -> None:
    changed: set[str] = set()
    for worse in WORSE.values():
        seen = worse(CALM, 1.0)
        for part in fields(Observation):
            before, now = getattr(CALM, part.name), getattr(seen, part.name)
            if isinstance(now, bool):
                changed |= {part.name} if now != before else set()
            else:
                names = [
                    one.name for one in fields(now) if getattr(now, one.name) != getattr(before, one.name)
                ]
                changed |= {f"{part.name}.{name}" for name in names}
    said = {
        "pressure.cpu_source",
        "pressure.io_source",
        "thermal.where",
        "thermal.celsius",
        "thermal.trip_celsius",
        "pressure.memory_source",
        "power.doubted",
        "thermal.doubted",
        "thermal.retracted",
        "user.source",
    }
    parts = {"power": Power, "thermal": Thermal, "pressure": Pressure, "own": OwnLimit, "user": Presence}
    every = {f"{name}.{one.name}" for name, kind in parts.items() for one in fields(kind)} | {"sleeping"}
    assert changed == every - said


@pytest.mark.slow
@given(st.lists(st.tuples(moments, st.sampled_from(sorted(WORSE)), amounts), max_size=15))
def test_machine_when_never_better_than_another_then_causes_never_leave_more(
    steps: list[tuple[Moment, str, float]],
) -> None:
    """Leave out strains, whose steps depend on the time of the last one."""
    good, bad = Replayed(), Replayed()
    for moment, field, amount in steps:
        calm = replace(moment, moved=(0.0,) * 6, heat=Heat.NOMINAL, cpus=0.0)
        seen = good.observe(calm)
        worse = bad.observe(calm)
        # Both machines have the same events.
        if field not in (
            "cpu",
            "io",
            "memory",
            "own throttled",
            "throttles",
            "power events",
            "thermal events",
        ):
            worse = WORSE[field](worse, 1.0 if field == "heat" else amount)
        there, here = good.keep(good.judge(seen)), bad.keep(bad.judge(worse))
        assert no_more(here, there)


@dataclass(frozen=True)
class Run:
    """A number of readings of a machine that does not change."""

    moment: Moment
    readings: int

    def moments(self) -> list[Moment]:
        """An event of the kernel announces the first of them, if at all."""
        later = replace(self.moment, announced=False)
        return [self.moment] + [later] * (self.readings - 1)


steady = moments.map(lambda one: replace(one, passed_s=min(max(one.passed_s, SETTINGS.confirm_s), 30.0)))
runs = st.lists(st.builds(Run, steady, st.integers(4, 12)), min_size=1, max_size=5)
wrong_thermals = st.builds(Thermal, st.sampled_from(Heat), critical=st.booleans())


@pytest.mark.slow
@given(runs, st.data())
def test_reading_when_one_among_right_ones_is_wrong_then_all_is_as_without_it_from_the_next_on(
    history: list[Run], data: st.DataObject
) -> None:
    """The machine stays the same for long enough to be believed before, and for the next reading.

    Guards: I9
    """
    which = data.draw(st.integers(0, len(history) - 1))
    wrong_at = sum(run.readings for run in history[:which])
    wrong_at += data.draw(st.integers(2, history[which].readings - 2))
    power, thermal = data.draw(powers), data.draw(wrong_thermals)
    heard = data.draw(st.booleans())
    right, doubtful = Replayed(), Replayed()
    for i, moment in enumerate(moment for run in history for moment in run.moments()):
        right.events += heard and i == wrong_at
        seen = right.observe(moment)
        doubtful.now_s = right.now_s
        there = right.keep(right.judge(seen))
        if i == wrong_at:
            events = replace(seen.power.events, recent=heard)
            # A report of a program is not a measurement.
            power = replace(power, profile=seen.power.profile, degraded=seen.power.degraded, events=events)
            wrong = replace(thermal, throttles=seen.thermal.throttles, events=events)
            seen = replace(seen, power=power, thermal=wrong)
        here = doubtful.keep(doubtful.judge(seen))
        if i != wrong_at:
            assert outcome(here) == outcome(there), (i, wrong_at)


def outcome(decision: Decision) -> tuple[object, ...]:
    """Everything that can be noticed from outside."""
    return decision.helpers, decision.level, decision.duty, decision.reasons


@given(st.lists(pressed, max_size=60))
def test_pressure_when_anything_then_no_more_than_one_change_in_a_hold_time(steps: list[Moment]) -> None:
    machine, have, last_s = Replayed(), HELPERS, float("-inf")
    for moment in steps:
        helpers = machine.live(moment).helpers
        if helpers != have:
            hold_s = SETTINGS.pressure_hold_s if helpers > have else SETTINGS.pressure_window_s
            assert machine.now_s - last_s >= hold_s - 1e-6
            assert helpers >= have - 1 or helpers == have // 2
            assert helpers <= have + 1
            have, last_s = helpers, machine.now_s
        assert helpers >= 1


@given(st.lists(pressed, max_size=60))
def test_pressure_when_it_has_given_a_helper_back_then_it_was_calm_for_a_hold_time(
    steps: list[Moment],
) -> None:
    machine, have, loud_s = Replayed(), HELPERS, float("-inf")
    for moment in steps:
        helpers = machine.live(moment).helpers
        if helpers > have:
            assert machine.now_s - loud_s >= SETTINGS.pressure_hold_s - 1e-6
        if any(felt.calm_s is None for felt in machine.state.felt.values()):
            loud_s = machine.now_s
        have = helpers


@pytest.mark.slow
@given(histories)
def test_allowance_when_all_is_calm_for_long_then_everything_runs(history: list[Moment]) -> None:
    machine = Replayed()
    decision = machine.keep(machine.judge(CALM))
    for one in history:
        decision = machine.live(one)
    longest_s = SETTINGS.battery_hold_s + HELPERS * SETTINGS.pressure_hold_s + 60.0
    end_s = machine.now_s + longest_s
    while machine.now_s < end_s:
        machine.now_s = max(decision.look_s or 0.0, machine.now_s + 0.01)
        decision = machine.keep(machine.judge(CALM))
    assert (decision.helpers, decision.level, decision.reasons) == (HELPERS, Level.RUN, ())


@given(histories, moments)
def test_mode_when_paused_then_none_and_when_always_then_all_but_what_the_own_limit_takes(
    history: list[Moment], moment: Moment
) -> None:
    machine = Replayed()
    for one in history:
        machine.live(one)
    seen = machine.observe(moment)
    paused, always = machine.judge(seen, Mode.PAUSED), machine.judge(seen, Mode.ALWAYS)
    assert (paused.helpers, paused.level, paused.look_s) == (0, Level.PAUSED, None)
    assert paused.reasons[0].code == "ADMIN_PAUSED"
    assert paused.reasons[0].since_s == 5.0
    limit = HELPERS if not moment.cpus else min(HELPERS, max(1, int(moment.cpus)))
    assert always.helpers == limit
    assert [reason.code for reason in always.reasons] == ["CGROUP_QUOTA"] * (limit < HELPERS)
    assert always.state == paused.state == machine.judge(seen).state


@given(histories, moments)
def test_decision_when_any_then_levels_helpers_reasons_and_looks_agree(
    history: list[Moment], moment: Moment
) -> None:
    machine = Replayed()
    for one in history:
        machine.live(one)
    decision = machine.judge(machine.observe(moment))
    codes = [reason.code for reason in decision.reasons]
    assert len(codes) == len(set(codes))
    assert (decision.level is Level.RUN) == (decision.helpers == HELPERS and decision.duty == 1.0)
    assert (decision.level >= Level.LEADS_ONLY) == (decision.helpers == 0)
    assert bool(codes) == (decision.level is not Level.RUN)
    assert all(reason.message and reason.since_s > 0 for reason in decision.reasons)
    assert decision.look_s is not None
    assert machine.now_s < decision.look_s + 1e-6
    assert decision.look_s <= machine.now_s + 30.0


@given(histories, moments)
def test_decision_when_asked_again_at_once_then_the_same(history: list[Moment], moment: Moment) -> None:
    machine = Replayed()
    for one in history:
        machine.live(one)
    seen = machine.observe(moment)
    first = machine.keep(machine.judge(seen))
    again = machine.judge(seen)
    assert (again.helpers, again.level, again.reasons) == (first.helpers, first.level, first.reasons)
    assert again.state == first.state


@given(st.integers(-1, 40), places)
def test_spread_when_any_then_all_are_placed_where_there_is_room(
    helpers: int, there_are: dict[int, int]
) -> None:
    found = spread(helpers, there_are)
    assert list(found) == sorted(there_are)
    assert sum(found.values()) == min(max(helpers, 0), sum(there_are.values()))
    assert all(0 <= found[nid] <= there_are[nid] for nid in there_are)
    fewer = spread(helpers - 1, there_are)
    assert all(fewer[nid] <= found[nid] for nid in there_are)


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 4))
def test_spread_when_nodes_are_alike_then_they_differ_by_one_at_most(
    helpers: int, each: int, nodes: int
) -> None:
    found = spread(helpers, dict.fromkeys(range(nodes), each)).values()
    assert max(found) - min(found) <= 1


def test_settings_when_default_then_less_never_asks_for_more() -> None:
    settings = GovernorSettings()
    assert all(getattr(settings, low) <= getattr(settings, high) for low, high in ORDERED)
