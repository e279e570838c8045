"""Single decisions of the policy that the recorded days do not cover."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktaskd.governor.meter import FORGET_S, Meter, measure
from ktaskd.governor.policy import Asked, Decision, State, decide, spread
from ktaskd.governor.readings import NO_SIGNAL, describe
from ktaskd.governor.settings import GovernorSettings
from ktaskd.model.allowance import Level, Reason
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


def ask(
    seen: Observation,
    *,
    before: State | None = None,
    now_s: float = 100.0,
    helpers: int = 4,
    **settings: object,
) -> Decision:
    asked = Asked(seen, helpers, now_s, 1000.0 + now_s)
    return decide(GovernorSettings(**settings), before or State(), asked)  # type: ignore[arg-type]


def reason_of(decision: Decision, code: str) -> Reason:
    (found,) = [reason for reason in decision.reasons if reason.code == code]
    return found


@pytest.mark.parametrize(
    ("answer", "level"), [("pause", Level.PAUSED), ("leads", Level.LEADS_ONLY), ("run", Level.RUN)]
)
def test_battery_when_the_configuration_answers_then_so(answer: str, level: Level) -> None:
    decision = ask(Observation(Power(on_battery=True)), on_battery=answer)
    assert decision.level is level
    assert [reason.code for reason in decision.reasons] == ["ON_BATTERY"] * (level is not Level.RUN)
    assert ask(Observation(Power(profile="power-saver")), power_saver=answer).level is level
    draining = Observation(Power(draining=True))
    assert ask(draining, on_battery=answer, draining_s=0.0).level is level


@pytest.mark.parametrize(
    ("percent", "profile", "low"),
    [
        (19.9, "balanced", True),
        (20.0, "balanced", False),
        (29.9, "power-saver", True),
        (30.0, "power-saver", False),
        (None, "power-saver", False),
    ],
)
def test_battery_when_low_then_the_reason_has_its_threshold(
    percent: float | None, profile: str, low: bool
) -> None:
    seen = Observation(Power(battery_percent=percent, draining=True, profile=profile))
    decision = ask(seen, power_saver="run")
    assert [reason.code for reason in decision.reasons] == ["BATTERY_LOW"] * low
    if profile == "balanced" and low:
        threshold = reason_of(decision, "BATTERY_LOW").threshold
        assert threshold == "below 20 %; clears at 25 % or on external power"


def test_battery_when_low_on_external_power_then_nothing_unless_it_drains() -> None:
    low = Power(battery_percent=3.0)
    assert ask(Observation(low)).level is Level.RUN
    assert ask(Observation(replace(low, on_battery=True)), on_battery="run").level is Level.PAUSED
    unplugged = ask(Observation(replace(low, on_battery=True)), on_battery="run")
    back = ask(Observation(low), before=unplugged.state, now_s=101.0, on_battery="run")
    assert back.level is Level.RUN  # the reading before was the only one


def test_battery_when_low_and_plugged_in_then_settled_as_external_power_is() -> None:
    low = Power(on_battery=True, battery_percent=3.0)
    first = ask(Observation(low))
    believed = ask(Observation(low), before=first.state, now_s=103.0)
    charging = Observation(replace(low, on_battery=False))
    back = ask(charging, before=believed.state, now_s=110.0)
    assert reason_of(back, "SETTLING").value == "ON_BATTERY, BATTERY_LOW"
    late = ask(charging, before=back.state, now_s=169.9)
    assert late.level is Level.PAUSED
    assert ask(charging, before=late.state, now_s=170.0).level is Level.RUN


def test_reason_when_it_lasts_then_since_stays() -> None:
    first = ask(Observation(Power(on_battery=True, battery_percent=50.0)))
    later = ask(Observation(Power(on_battery=True, battery_percent=40.0)), before=first.state, now_s=500.0)
    assert reason_of(later, "ON_BATTERY") == Reason(
        "ON_BATTERY", "the machine runs on battery", "40 %", "clears on external power", 1100.0
    )


def test_settling_when_power_is_back_then_since_then_and_the_next_look_ends_it() -> None:
    first = ask(Observation(Power(on_battery=True)))
    second = ask(Observation(Power(on_battery=True)), before=first.state, now_s=140.0)
    back = ask(Observation(), before=second.state, now_s=150.0)
    settling = reason_of(back, "SETTLING")
    assert (settling.value, settling.threshold, settling.since_s) == ("ON_BATTERY", "60 s", 1150.0)
    assert (back.look_s, back.doubts) == (153.0, True)
    believed = ask(Observation(), before=back.state, now_s=153.0)
    assert reason_of(believed, "SETTLING") == settling
    assert (believed.look_s, believed.doubts) == (183.0, False)  # the slow poll
    late = ask(Observation(), before=believed.state, now_s=209.0)
    assert (late.level, late.look_s) == (Level.PAUSED, 210.0)
    assert ask(Observation(), before=late.state, now_s=210.0).level is Level.RUN


def test_reason_when_it_comes_back_before_it_has_settled_then_at_once_and_since_then() -> None:
    draining = Observation(Power(draining=True))
    first = ask(draining)
    assert (first.level, first.look_s) == (Level.RUN, 102.0)
    counts = ask(draining, before=first.state, now_s=160.0)
    once = ask(Observation(), before=counts.state, now_s=170.0)
    assert once.reasons[0].code == "SETTLING"
    still = ask(draining, before=once.state, now_s=172.0)
    assert reason_of(still, "DRAINING").since_s == 1100.0  # a single reading between others does not count
    gone = ask(Observation(), before=still.state, now_s=176.0)
    gone = ask(Observation(), before=gone.state, now_s=179.0)
    again = ask(draining, before=gone.state, now_s=180.0)
    again = ask(draining, before=again.state, now_s=183.0)
    assert again.level is Level.PAUSED
    assert reason_of(again, "DRAINING").since_s == 1180.0


@pytest.mark.parametrize(
    ("answer", "helpers", "level"),
    [
        ("pause", 0, Level.PAUSED),
        ("leads", 0, Level.LEADS_ONLY),
        ("one", 1, Level.FEWER),
        ("run", 4, Level.RUN),
    ],
)
def test_user_when_at_the_machine_then_as_the_configuration_answers(
    answer: str, helpers: int, level: Level
) -> None:
    here = ask(Observation(user=Presence(179.0, "logind")), user_active=answer)
    assert (here.helpers, here.level) == (helpers, level)
    assert [reason.code for reason in here.reasons] == ["USER_ACTIVE"] * (answer != "run")
    if answer != "run":
        assert reason_of(here, "USER_ACTIVE").value == "last input 179 s ago"
    for gone in (Presence(180.0, "logind"), Presence()):
        away = ask(Observation(user=gone), before=here.state, now_s=101.0, user_active=answer)
        assert away.level is Level.RUN


@pytest.mark.parametrize(
    ("cpus", "helpers"), [(0.0, 4), (0.5, 1), (1.0, 1), (1.5, 1), (2.0, 2), (3.99, 3), (4.0, 4), (64.0, 4)]
)
def test_quota_when_the_own_group_has_one_then_rounded_down_but_one(cpus: float, helpers: int) -> None:
    decision = ask(Observation(own=OwnLimit(cpus)))
    assert decision.helpers == helpers
    assert [reason.code for reason in decision.reasons] == ["CGROUP_QUOTA"] * (helpers < 4)


def test_pressure_when_there_is_one_helper_then_it_works_a_share_of_the_time() -> None:
    calm = Observation(pressure=Pressure(Stall(0), "x", Stall(0), Stall(0, 0)))
    loud = Observation(pressure=Pressure(Stall(2_000_000), "x", Stall(2_000_000), Stall(2_000_000, 0)))
    first = ask(calm, helpers=1)
    assert (first.helpers, first.duty, first.level) == (1, 1.0, Level.RUN)
    second = ask(loud, before=first.state, now_s=102.0, helpers=1)
    assert (second.helpers, second.duty, second.level) == (1, 0.02, Level.FEWER)
    assert reason_of(second, "CPU_PRESSURE").value == "100.0 % of the time"
    third = ask(loud, before=second.state, now_s=104.0, helpers=1)
    assert (third.helpers, third.duty) == (1, 0.02)


def test_pressure_when_it_lasts_then_all_helpers_half_one_and_a_trickle_and_back_when_calm() -> None:
    def seen(total_s: float) -> Observation:
        return Observation(pressure=Pressure(Stall(int(total_s * 1e6)), "x", Stall(0), Stall(0, 0)))

    now_s, found = 100.0, [ask(seen(0), helpers=4)]
    for i in range(1, 6):
        now_s = 100.0 + 2 * i
        found.append(ask(seen(2.0 * i), before=found[-1].state, now_s=now_s, helpers=4))
    assert [(one.helpers, one.duty) for one in found[:4]] == [(4, 1.0), (2, 1.0), (1, 1.0), (1, 0.02)]
    calm = found[-1]
    for _ in range(100):
        now_s += 2.0
        calm = ask(seen(10.0), before=calm.state, now_s=now_s, helpers=4)
    assert (calm.helpers, calm.duty, calm.level) == (4, 1.0, Level.RUN)


def test_power_when_the_kernel_announces_that_it_went_and_came_back_then_it_did() -> None:
    calm = ask(Observation())
    gone = Observation(Power(on_battery=True, events=Events(1, True)))
    pulled = ask(gone, before=calm.state, now_s=101.0)
    assert pulled.level is Level.PAUSED
    for count, codes in ((1, []), (2, ["SETTLING"])):
        back = ask(Observation(Power(events=Events(count, True))), before=pulled.state, now_s=102.0)
        assert [reason.code for reason in back.reasons] == codes


def test_heat_when_the_kernel_announces_it_and_its_end_then_nothing_is_left_of_it() -> None:
    calm = ask(Observation())
    hot = Observation(thermal=Thermal(Heat.SEVERE, events=Events(1, True)))
    paused = ask(hot, before=calm.state, now_s=101.0)
    assert paused.level is Level.PAUSED
    cool = Observation(thermal=Thermal(events=Events(2, True)))
    assert ask(cool, before=paused.state, now_s=102.0).reasons == ()


def test_heat_when_there_is_one_helper_then_it_works_on() -> None:
    warm = Observation(thermal=Thermal(Heat.LIGHT))
    first = ask(warm, helpers=1)
    assert ask(warm, before=first.state, now_s=120.0, helpers=1).duty == 1.0


def test_heat_when_the_processor_slows_itself_down_then_one_helper() -> None:
    first = ask(Observation(thermal=Thermal(throttles=5)))
    assert first.helpers == 4  # counted since boot, at an unknown time
    once = ask(Observation(thermal=Thermal(throttles=9)), before=first.state, now_s=102.0)
    assert once.helpers == 4  # a CPU that comes back online also makes the count rise
    slowed = ask(Observation(thermal=Thermal(throttles=12)), before=once.state, now_s=105.0)
    assert slowed.helpers == 1
    assert reason_of(slowed, "THERMAL").value == "the processor throttles itself"


def test_heat_when_a_zone_says_so_then_it_is_named() -> None:
    seen = Observation(thermal=Thermal(Heat.SEVERE, "x86_pkg_temp", 96.5, 100.0))
    reason = reason_of(ask(seen), "THERMAL")
    assert (reason.value, reason.threshold) == ("x86_pkg_temp 96.5 °C", "trip point at 100 °C")


def test_meter_when_its_window_has_not_passed_then_as_before() -> None:
    first = measure(None, 100, 10.0, 2.0)
    assert first == Meter(10.0, 100)
    assert measure(first, 500, 11.9, 2.0) is first
    assert measure(first, 500, 12.0, 2.0) == Meter(12.0, 500, 200.0)
    fallen = measure(first, 50, 14.0, 2.0)
    assert fallen == Meter(14.0, 50, 0.0, fallen_from=100)
    assert measure(fallen, 100, 16.0, 2.0) == Meter(16.0, 100, 0.0), "one reading was wrong"
    assert measure(fallen, 104, 16.0, 2.0).rate == 2.0
    assert measure(fallen, 60, 16.0, 2.0) == Meter(16.0, 60, 5.0), "it began again"
    assert measure(first, 500, 10.1 + FORGET_S, 2.0).rate is None


def test_spread_when_nodes_are_unlike_then_each_has_its_part() -> None:
    assert spread(3, {0: 6, 1: 3}) == {0: 2, 1: 1}
    assert spread(6, {0: 6, 1: 3}) == {0: 4, 1: 2}
    assert spread(1, {0: 2, 1: 6, 2: 0}) == {0: 0, 1: 1, 2: 0}
    assert spread(0, {3: 1}) == {3: 0}


def test_readings_when_there_is_no_signal_then_reported_as_such() -> None:
    values = {one.name: one.value for one in describe(Observation(), {})}
    silent = {name for name, value in values.items() if value == NO_SIGNAL}
    assert silent == {
        *("battery", "power profile", "performance", "temperature"),
        *("cpu pressure", "io pressure", "memory pressure", "memory pressure full", "user"),
    }
    assert values["own cpu limit"] == "none"


def test_readings_when_there_is_then_with_units_and_sources() -> None:
    seen = Observation(
        Power(battery_percent=43.4, draining=True, profile="balanced", degraded="lap-detected"),
        Thermal(Heat.LIGHT, "zone0", 71.0, 80.0),
        Pressure(Stall(0), "user.slice"),
        OwnLimit(1.5, 7),
        sleeping=True,
        user=Presence(0.0, "logind"),
    )
    meters = {"cpu": Meter(0.0, 0, 123_000.0), "io": Meter(0.0, 0)}
    values = {one.name: (one.value, one.source) for one in describe(seen, meters)}
    assert values["power"][0] == "external power, too weak"
    assert values["battery"][0] == "43 %"
    assert values["performance"][0] == "degraded: lap-detected"
    assert values["temperature"] == ("light, 71 °C, trip point at 80 °C", "zone0")
    assert values["cpu pressure"] == ("12.3 % of the time", "user.slice")
    assert values["io pressure"][0] == "not measured yet"
    assert values["own cpu limit"][0] == "1.5 CPUs"
    assert values["own throttling"][0] == "7 periods"
    assert values["sleep"][0] == "about to sleep"
    assert values["user"] == ("in use", "logind")
