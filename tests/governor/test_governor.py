"""The governor itself, with a machine that the test sets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest

from ktaskd.governor.governor import AFRESH_S, Clocks, Governor
from ktaskd.governor.settings import GovernorSettings
from ktaskd.model.allowance import Allowance, Level, Mode
from ktaskd.model.observation import Events, Observation, Power, Presence

FULL = Allowance({0: 4, 1: 2}, leads=3, leads_per_uid=2)
UNPLUGGED = Observation(Power(on_battery=True, battery_percent=61.0))
EXTERNAL = "clears on external power"
PATIENCE_S = 30.0


class Machine:
    """The machine that the governor watches, its clocks, and the allowances that it published."""

    def __init__(self) -> None:
        self.seen = Observation()
        self.reads = 0
        self.fresh = 0
        self.own: Collection[int] = ()
        self.polls: list[bool] = []
        self.published: list[Allowance] = []
        self.changed = asyncio.Event()
        self.read = asyncio.Event()
        self.skipped_s = 0.0
        self.cost_s = 0.0
        self.looks_for_user = False

    def observe(self, own: Collection[int] = (), *, fresh: bool = True, user: bool = False) -> Observation:
        self.looks_for_user = user
        self.reads += 1
        self.fresh += fresh
        self.own = own
        self.skipped_s += self.cost_s
        self.read.set()
        return self.seen

    def poll(self, on: bool) -> None:
        self.polls.append(on)

    def hear(self, allowance: Allowance) -> None:
        self.published.append(allowance)
        self.changed.set()

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.skipped_s

    def wall(self) -> float:
        return 1_800_000_000.0 + self.clock()

    async def next_change(self) -> Allowance:
        await asyncio.wait_for(self.changed.wait(), PATIENCE_S)
        self.changed.clear()
        return self.published[-1]

    async def next_read(self) -> None:
        self.read.clear()
        await asyncio.wait_for(self.read.wait(), PATIENCE_S)


@asynccontextmanager
async def governed(**settings: Any) -> AsyncIterator[tuple[Machine, Governor]]:
    machine = Machine()
    governor = Governor(
        GovernorSettings(**settings),
        FULL,
        machine,
        machine.hear,
        own=lambda: [7],
        clocks=Clocks(machine.clock, machine.wall),
    )
    yield machine, governor
    governor.close()
    assert governor._timer is None


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@in_loop
async def test_refresh_when_nothing_is_wrong_then_all_and_nothing_is_published() -> None:
    async with governed() as (machine, governor):
        assert governor.refresh() == FULL
        assert machine.published == []
        assert machine.own == [7]


@in_loop
async def test_refresh_when_unplugged_then_published_at_once_with_the_reason() -> None:
    async with governed() as (machine, governor):
        machine.seen = UNPLUGGED
        allowance = governor.refresh()
        assert machine.published == [allowance]
        assert (allowance.helpers, allowance.level) == ({0: 0, 1: 0}, Level.PAUSED)
        assert (allowance.leads, allowance.leads_per_uid) == (3, 2)
        (reason,) = allowance.reasons
        assert (reason.code, reason.value, reason.threshold) == ("ON_BATTERY", "61 %", EXTERNAL)


@in_loop
async def test_refresh_when_asked_again_at_once_then_read_once_but_an_event_is_always_read() -> None:
    async with governed() as (machine, governor):
        governor.refresh()
        governor.refresh()
        assert (machine.reads, machine.fresh) == (1, 1)
        governor.look()
        assert (machine.reads, machine.fresh) == (2, 1)
        machine.skipped_s += AFRESH_S
        governor.refresh()
        assert (machine.reads, machine.fresh) == (3, 2)


@in_loop
async def test_refresh_when_reading_is_slow_then_so_seldom_that_it_takes_its_share() -> None:
    async with governed() as (machine, governor):
        machine.cost_s = 0.1  # each reading
        governor.refresh()
        machine.skipped_s += 1.8
        governor.refresh()
        assert machine.reads == 1
        governor.refresh(0.5)
        assert machine.reads == 2
        machine.skipped_s += 2.1
        governor.refresh()
        assert machine.reads == 3


@in_loop
async def test_renew_when_the_last_fresh_reading_is_within_a_window_then_nothing_is_read() -> None:
    async with governed(pressure_window_s=2.0) as (machine, governor):
        assert governor.renew() == FULL
        machine.seen = Observation(replace(UNPLUGGED.power, events=Events(1, True)))
        machine.skipped_s += 1.9
        assert governor.renew() == FULL
        assert machine.reads == 1
        governor.look()  # on an event: not a fresh reading, but it counts at once
        assert (governor.renew().level, machine.fresh) == (Level.PAUSED, 1)
        machine.skipped_s += 0.2
        governor.renew()
        assert machine.fresh == 2


@in_loop
async def test_renew_when_reading_is_slow_then_so_seldom_that_it_takes_its_share() -> None:
    async with governed(pressure_window_s=2.0) as (machine, governor):
        machine.cost_s = 0.2  # each reading
        governor.renew()
        machine.skipped_s += 3.8
        governor.renew()
        assert machine.reads == 1
        machine.skipped_s += 0.3
        governor.renew()
        assert machine.reads == 2


@in_loop
async def test_governor_when_nothing_is_queued_then_no_timer_and_no_polling() -> None:
    async with governed() as (machine, governor):
        machine.seen = UNPLUGGED
        governor.refresh()
        machine.seen = Observation()  # settling now, which ends on its own
        governor.look()
        assert governor._timer is None
        assert machine.polls == []


@in_loop
async def test_governor_when_work_is_queued_then_it_looks_by_itself_and_no_more_after_it() -> None:
    async with governed(pressure_window_s=0.02) as (machine, governor):
        governor.refresh()
        governor.queued(True)
        assert machine.polls == [True]
        await machine.next_read()
        await machine.next_read()
        governor.queued(False)
        governor.queued(True)  # the next small job
        assert machine.polls == [True]
        governor.queued(False)
        await ended_polling(machine, governor)
        assert machine.polls == [True, False]
        assert governor._timer is None


async def ended_polling(machine: Machine, governor: Governor) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while governor._timer is not None:
            await asyncio.sleep(0.001)


@in_loop
async def test_governor_when_helpers_are_paused_then_others_need_not_poll_for_it() -> None:
    async with governed(ac_hold_s=0.05, confirm_s=0.05) as (machine, governor):
        governor.refresh()
        governor.queued(True)
        machine.seen = Observation(replace(UNPLUGGED.power, events=Events(1, True)))
        governor.look()
        assert machine.polls == [True, False]
        machine.changed.clear()
        machine.seen = Observation()
        governor.look()
        assert (await machine.next_change()).reasons[0].code == "SETTLING"
        assert await machine.next_change() == FULL  # by its own timer
        assert machine.polls == [True, False, True]


@in_loop
async def test_mode_when_set_then_it_holds_against_the_machine_until_set_back() -> None:
    async with governed() as (machine, governor):
        machine.seen = UNPLUGGED
        governor.refresh()
        governor.set_mode(Mode.ALWAYS)
        assert machine.published[-1] == FULL
        assert governor.mode_until_s == 0.0
        machine.seen = replace(UNPLUGGED, sleeping=True)
        governor.look()
        assert governor.allowance == FULL
        governor.set_mode(Mode.PAUSED)
        assert governor.allowance.level is Level.PAUSED
        assert [reason.code for reason in governor.allowance.reasons] == [
            "ADMIN_PAUSED",
            "SLEEP",
            "ON_BATTERY",
        ]
        machine.seen = Observation()
        governor.look()
        assert [reason.code for reason in governor.allowance.reasons] == ["ADMIN_PAUSED", "SETTLING"]
        assert governor._timer is None


@in_loop
async def test_mode_when_its_time_is_over_then_auto_by_one_timer() -> None:
    async with governed() as (machine, governor):
        governor.set_mode(Mode.PAUSED, 0.05)
        assert governor.mode_until_s == pytest.approx(machine.wall() + 0.05, abs=1.0)
        assert (await machine.next_change()).level is Level.PAUSED
        assert await machine.next_change() == FULL
        assert (governor.mode, governor.mode_until_s) == (Mode.AUTO, 0.0)
        assert governor._timer is None


@in_loop
async def test_mode_when_its_time_went_by_asleep_then_over_at_the_next_question() -> None:
    async with governed() as (machine, governor):
        governor.set_mode(Mode.ALWAYS, 3600.0)
        until_s = governor.mode_until_s
        machine.skipped_s = 3599.0
        governor.refresh()
        assert (governor.mode, governor.mode_until_s) == (Mode.ALWAYS, until_s)
        machine.skipped_s = 3600.0
        machine.seen = Observation(replace(UNPLUGGED.power, events=Events(1, True)))
        assert governor.refresh().level is Level.PAUSED
        assert governor.mode is Mode.AUTO


@in_loop
async def test_log_when_a_value_moves_then_one_line_on_and_one_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with governed(ac_hold_s=0.0) as (machine, governor):
        for percent in (61.0, 60.0, 59.0):
            machine.seen = Observation(Power(on_battery=True, battery_percent=percent))
            governor.look()
        assert len(machine.published) == 3
        machine.seen = Observation()
        governor.look()
    assert [record.getMessage() for record in caplog.records] == [
        'reason_began reason=ON_BATTERY value="61 %" threshold="clears on external power"',
        "reason_over reason=ON_BATTERY",
    ]


@in_loop
async def test_configure_when_a_threshold_is_other_then_it_holds_at_once() -> None:
    async with governed() as (machine, governor):
        machine.seen = UNPLUGGED
        governor.refresh()
        governor.configure(GovernorSettings(on_battery="leads"))
        assert governor.allowance.level is Level.LEADS_ONLY
        governor.configure(GovernorSettings(on_battery="run"))
        assert governor.allowance == FULL


@in_loop
async def test_readings_when_asked_then_what_was_read_last() -> None:
    async with governed() as (machine, governor):
        machine.seen = UNPLUGGED
        governor.refresh()
        values = {one.name: one.value for one in governor.readings()}
        names = ("power", "battery", "cpu pressure")
        assert [values[name] for name in names] == ["battery", "61 %", "no signal"]


@in_loop
async def test_reading_when_it_contradicts_those_before_then_a_second_one_is_read_afresh_by_a_timer() -> None:
    async with governed(confirm_s=0.05, pressure_window_s=1000.0) as (machine, governor):
        governor.refresh()
        governor.queued(True)
        machine.seen = UNPLUGGED
        governor.look()
        assert governor.allowance == FULL
        assert machine.fresh == 1
        assert (await machine.next_change()).level is Level.PAUSED
        assert machine.fresh == 2


@in_loop
async def test_reading_when_it_contradicts_those_before_and_nothing_is_queued_then_no_timer() -> None:
    async with governed() as (machine, governor):
        governor.refresh()
        machine.seen = UNPLUGGED
        governor.look()
        machine.seen = Observation()
        governor.look()
        assert machine.published == []
        assert machine.fresh == 2
        assert governor._timer is None


@in_loop
async def test_user_when_configured_then_read_and_reported_missing_without_a_source() -> None:
    async with governed() as (machine, governor):
        governor.refresh()
        assert not machine.looks_for_user
        assert governor.doubted == ()
        governor.configure(GovernorSettings(user_active="leads"))
        assert machine.looks_for_user
        assert "neither logind" in governor.doubted[0]
        machine.seen = Observation(user=Presence(1.0, "logind"))
        governor.look()
        assert governor.doubted == ()
        assert governor.allowance.level is Level.LEADS_ONLY


@in_loop
async def test_log_when_a_sensor_is_doubted_then_one_line_and_one_when_it_counts_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with governed() as (machine, governor):
        for doubted in ((), ("BAT0: worn",), ("BAT0: worn",), ()):
            machine.seen = Observation(Power(doubted=doubted))
            governor.look()
            assert governor.doubted == doubted
    assert [record.getMessage() for record in caplog.records] == [
        'sensor_doubted why="BAT0: worn"',
        'sensor_counts_again was="BAT0: worn"',
    ]
