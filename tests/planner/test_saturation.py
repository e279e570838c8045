"""A worker that makes a job no faster is taken off, and one that does is kept.

Tests: ktaskd/planner/saturation.py
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.planner.saturation import (
    AGAIN_MAX_S,
    AGAIN_S,
    FIRST_WRITING_S,
    MEASURE_S,
    PAYS,
    SETTLE_S,
    STALE_S,
    Look,
    Order,
    Saturation,
)

LOOK_S = MEASURE_S / 2


class Machine:
    """A job whose speed is a function of its workers; a helper answers `delay` looks after its recall."""

    def __init__(self, speed: Callable[[int, float], float], workers: int = 2, delay: int = 1) -> None:
        self.speed, self.workers, self.delay = speed, workers, delay
        self.known = Saturation(FIRST_WRITING_S)
        self.now_s, self.done = 100.0, 0.0
        self.with_workers: dict[int, float] = {}
        self.orders: list[tuple[float, Order]] = []
        self._leaves: list[int] = []

    def run(self, seconds: float) -> Machine:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            order = self.known.look(Look(self.now_s, int(self.done), self.workers))
            if order is not Order.NOTHING:
                self.orders.append((self.now_s, order))
            if order is Order.TAKE_OFF:
                self._leaves.append(self.delay)
            elif order is Order.GIVE_BACK:
                self.workers += 1
            self._leaves = [left - 1 for left in self._leaves]
            self.workers -= self._leaves.count(-1)
            self._leaves = [left for left in self._leaves if left >= 0]
            self.now_s += LOOK_S
            self.done += LOOK_S * self.speed(self.workers, self.now_s)
            self.with_workers[self.workers] = self.with_workers.get(self.workers, 0.0) + LOOK_S
        return self


def test_worker_when_it_adds_nothing_then_off_for_nearly_all_of_the_time() -> None:
    machine = Machine(lambda workers, _: 1e9).run(100.0)
    assert machine.known.limit == 1
    assert machine.with_workers[2] < 0.05 * 100.0
    rates = machine.known.against_more
    assert rates is not None
    assert (rates.workers, round(rates.with_all / rates.with_fewer, 2)) == (2, 1.0)


def test_worker_when_it_makes_the_job_slower_then_off_at_once() -> None:
    machine = Machine(lambda workers, _: 1e9 / workers).run(1.0)
    assert machine.orders == [(machine.orders[0][0], Order.TAKE_OFF)]
    assert machine.orders[0][0] - 100.0 < FIRST_WRITING_S + SETTLE_S + 2 * MEASURE_S


def test_worker_when_it_pays_then_on_for_nearly_all_of_the_time() -> None:
    machine = Machine(lambda workers, _: 1e9 * workers).run(100.0)
    assert machine.with_workers[1] < 0.01 * 100.0
    assert machine.known.limit == 0
    assert machine.known.against_more is None


def test_worker_when_it_begins_to_pay_later_then_given_back() -> None:
    machine = Machine(lambda workers, now_s: 1e9 * (workers if now_s > 130.0 else 1)).run(30.0)
    assert machine.known.limit == 1
    machine.run(2 * AGAIN_MAX_S)
    assert machine.known.limit == 0


def test_trials_when_the_answer_stays_the_same_then_less_and_less_often() -> None:
    machine = Machine(lambda workers, _: 1e9 * workers).run(1000.0)
    begins = [at_s for at_s, order in machine.orders if order is Order.TAKE_OFF]
    gaps = [after - before for before, after in pairwise(begins)]
    assert AGAIN_S <= gaps[0] < AGAIN_S + 1.0
    assert all(after > before - 1.0 for before, after in pairwise(gaps))
    assert gaps[-1] < AGAIN_MAX_S + 1.0


@given(st.floats(0.3, 2.0), st.integers(2, 8), st.integers(0, 20))
def test_limit_when_a_worker_adds_less_or_more_than_a_twentieth_then_as_said(
    gain: float, workers: int, delay: int
) -> None:
    def speed(count: int, _: float) -> float:
        return 1e9 * (gain if count == workers else 1.0)

    machine = Machine(speed, workers, delay).run(1.0)
    if abs(gain - PAYS) > 0.01:
        assert machine.known.limit == (0 if gain > PAYS else workers - 1)


def test_job_when_it_has_one_worker_then_left_alone() -> None:
    assert Machine(lambda workers, _: 1e9, workers=1).run(100.0).orders == []


def tried() -> Machine:
    """A machine that is in the middle of a trial."""
    machine = Machine(lambda workers, _: 1e9)
    while not machine.orders:
        machine.run(LOOK_S)
    return machine


def test_pause_when_in_a_trial_then_given_back_and_tried_again_from_the_begin() -> None:
    machine = tried().run(2 * LOOK_S)
    assert machine.workers == 1
    assert machine.known.pause(machine.now_s) is Order.GIVE_BACK
    assert (machine.known.limit, machine.known.rates) == (0, None)
    assert machine.known.pause(machine.now_s) is Order.NOTHING
    machine.workers = 2
    machine.run(FIRST_WRITING_S)
    assert machine.orders[1:] == []
    machine.run(10 * MEASURE_S)
    assert machine.known.limit == 1


def test_pause_when_a_worker_is_off_then_given_back_when_it_is_due_and_not_before() -> None:
    machine = tried().run(10 * MEASURE_S)
    known = machine.known
    assert known.against_more
    assert known.pause(machine.now_s) is Order.NOTHING
    assert known.pause(machine.now_s + AGAIN_S) is Order.GIVE_BACK
    assert known.against_more is None


def test_look_when_there_was_a_gap_then_no_rate_is_measured_over_it() -> None:
    machine = tried()
    machine.now_s += 10 * STALE_S  # other workers may have been there
    machine.done += 1e9 * STALE_S
    machine.run(10 * MEASURE_S)
    assert machine.known.rates is not None
    assert round(machine.known.rates.with_fewer / 1e9, 2) == 1.0


def test_wait_when_a_trial_is_far_off_then_long_enough_to_be_ready_for_it() -> None:
    machine = tried()
    assert machine.known.wait_s(machine.now_s) == 0
    machine.run(10 * MEASURE_S)
    wait_s = machine.known.wait_s(machine.now_s)
    assert AGAIN_S / 2 < wait_s < AGAIN_S
    machine.now_s += wait_s
    machine.run(SETTLE_S + 4 * MEASURE_S)
    assert machine.orders[-1][1] is Order.GIVE_BACK
