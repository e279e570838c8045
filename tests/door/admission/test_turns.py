"""The order of turns, on a virtual clock: by use, between accounts and between the users in them.

Guards: I12
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque

import pytest

from ktaskd.door.admission.prices import (
    CALL_ALONE_S,
    CALL_COST_S,
    GRACE_S,
    LIGHT_GRACE_S,
    MODEST_S,
    PRICE,
    UNBEGUN_MAX,
    UNBEGUN_S,
)
from ktaskd.door.admission.turns import Ticket, Turns, User
from tests.door.virtual import run

LOUD, QUIET, OTHER = 1, 2, 3
SLICE_S = 0.001


def now() -> float:
    return asyncio.get_running_loop().time()


def never() -> None:
    raise AssertionError("it was in at once")


class Flood:
    """A user that always asks for one more turn, and uses some time in each."""

    def __init__(self, user: User, cost_s: float = SLICE_S) -> None:
        self.user = user
        self.used_s = 0.0
        self.turns = 0
        self._cost_s = cost_s
        self.ask()

    def ask(self) -> None:
        if self.user.ask(self._on_turn) is None:
            asyncio.get_running_loop().call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self.turns += 1
        self.used_s += self._cost_s
        self.user.charge(self._cost_s)
        self.ask()


@pytest.mark.parametrize(("others", "price_s"), [(False, CALL_ALONE_S), (True, PRICE * CALL_COST_S)])
def test_call_when_somebody_would_notice_then_charged_as_one_of_the_worst(
    others: bool, price_s: float
) -> None:
    async def test() -> None:
        turns = Turns(now)
        loud = turns.join(LOUD)
        if others:
            turns.join(QUIET).note()
        loud.ask(never, call=True)
        before_s = loud.account.pace.debt_s(now())
        loud.ask(never, call=True)  # the second one at the same time: no light user's any more
        assert loud.account.pace.debt_s(now()) - max(before_s, 0.0) == pytest.approx(price_s)

    run(test())


async def one_call_after_the_other(user: User, seconds: float) -> int:
    """Make calls until one has to wait; return how many were admitted at once."""
    count, end_s = 0, now() + seconds
    while now() < end_s:
        assert user.ask(never, call=True) is None
        user.began()
        user.charge(0.0005)
        await asyncio.sleep(0.005)
        user.ended(1, 0, answered=True)
        count += 1
    return count


def test_call_when_one_after_the_other_then_never_waits_beside_a_flood() -> None:
    async def test() -> None:
        turns = Turns()
        quiet, flood = turns.join(QUIET), Flood(turns.join(LOUD))
        assert await one_call_after_the_other(quiet, 2.0) >= 400
        assert 0.1 < flood.used_s / 2.0 <= 1 / PRICE + 0.02

    run(test())


def test_call_when_the_flood_is_of_its_own_account_then_never_waits_either() -> None:
    async def test() -> None:
        turns = Turns()
        quiet, flood = turns.join(QUIET, -1), Flood(turns.join(LOUD, -1))
        assert await one_call_after_the_other(quiet, 2.0) >= 400
        assert 0.05 < flood.used_s / 2.0 <= 1 / PRICE + 0.02

    run(test())


def test_flood_when_nobody_else_is_there_then_hardly_slowed() -> None:
    async def test() -> None:
        turns = Turns()
        flood = Flood(turns.join(LOUD))
        await asyncio.sleep(2)
        assert flood.used_s > 1.8

    run(test())


def test_flood_when_of_many_connections_or_uids_of_an_account_then_no_more_than_of_one() -> None:
    async def test() -> None:
        turns = Turns()
        quiet = turns.join(QUIET)
        floods = [Flood(turns.join(uid, -1)) for uid in range(100, 170)]
        await one_call_after_the_other(quiet, 2.0)
        assert sum(flood.used_s for flood in floods) / 2.0 <= 1 / PRICE + 0.05
        counts = [flood.turns for flood in floods]
        assert max(counts) - min(counts) <= 3, "each uid gets as much as any other"

    run(test())


def test_accounts_when_two_flood_then_both_together_as_much_as_one() -> None:
    async def test() -> None:
        turns = Turns()
        quiet = turns.join(QUIET)
        one, other = Flood(turns.join(LOUD)), Flood(turns.join(OTHER), cost_s=4 * SLICE_S)
        await one_call_after_the_other(quiet, 4.0)
        assert (one.used_s + other.used_s) / 4.0 <= 1 / PRICE + 0.05
        # The order depends on the use, not on the number of turns.
        assert 0.6 < one.used_s / other.used_s < 1.7

    run(test())


def test_calls_when_each_is_taken_back_at_once_then_paced_as_if_they_were_not() -> None:
    """HEADERS and RST_STREAM back to back: no call counts as the first after the one before."""

    async def test() -> None:
        turns, came = Turns(), 0
        quiet, loud = turns.join(QUIET), turns.join(LOUD)

        def on_turn() -> None:
            nonlocal came
            came += 1
            loud.was_reset()
            asyncio.get_running_loop().call_soon(again)

        def again() -> None:
            if loud.ask(on_turn, call=True) is None:
                on_turn()

        again()
        await one_call_after_the_other(quiet, 2.0)
        assert 100 < came <= 2.0 / (CALL_COST_S * PRICE) * 1.05

    run(test())


def test_user_when_it_uses_more_than_is_modest_then_light_no_more_until_answered() -> None:
    async def test() -> None:
        turns = Turns()
        turns.join(QUIET).note()
        loud = turns.join(LOUD)
        assert loud.ask(never, call=True) is None
        loud.charge(MODEST_S)
        loud.charge(GRACE_S)
        waits = loud.ask(lambda: None)
        assert waits is not None
        waits.cancel()
        loud.ended(1, 1, answered=True)
        assert loud.ask(never, call=True) is None

    run(test())


def test_light_users_when_they_are_many_of_an_account_then_leave_a_third() -> None:
    async def test() -> None:
        turns = Turns()
        turns.join(QUIET).note()
        users = [turns.join(uid, -1) for uid in range(100, 170)]
        at_once = 0
        for user in users:
            turns.find(QUIET).note()
            if user.ask(lambda: None, call=True) is not None:
                break
            at_once += 1
            user.charge(SLICE_S)
        assert at_once < 2 + LIGHT_GRACE_S / SLICE_S

    run(test())


def test_light_user_when_it_has_to_wait_in_line_then_newcomers_are_not_all_before_it() -> None:
    """Its use as a light user does not count against it in the queue."""

    async def test() -> None:
        turns = Turns()
        quiet = turns.join(QUIET, -1)
        await one_call_after_the_other(quiet, 10.0)
        floods = [Flood(turns.join(uid, -1)) for uid in range(100, 170)]
        quiet.charge(2 * MODEST_S)
        came = asyncio.Event()
        assert quiet.ask(came.set) is not None
        async with asyncio.timeout(2 * len(floods) * SLICE_S * PRICE):
            await came.wait()

    run(test())


def test_calls_when_no_handler_begins_with_them_then_few_are_inside() -> None:
    async def test() -> None:
        turns, came = Turns(), []
        loud = turns.join(LOUD)
        for number in range(UNBEGUN_MAX + 2):
            if loud.ask(lambda number=number: came.append(number), call=True) is None:  # type: ignore[misc]
                came.append(number)
        await asyncio.sleep(CALL_COST_S * UNBEGUN_MAX)
        assert len(came) == UNBEGUN_MAX
        loud.began()
        await asyncio.sleep(2 * CALL_COST_S)
        assert len(came) == UNBEGUN_MAX + 1
        # Not everything that looks like a call is one, so the wait for its handler ends.
        await asyncio.sleep(2 * UNBEGUN_S)
        assert came == list(range(UNBEGUN_MAX + 2))

    run(test())


def test_ticket_when_cancelled_then_never_comes_in_and_holds_nobody_up() -> None:
    async def test() -> None:
        turns, came = Turns(), []
        loud = turns.join(LOUD)
        loud.charge(1.0)
        tickets = [loud.ask(lambda number=number: came.append(number)) for number in range(4)]  # type: ignore[misc]
        for number in (1, 3, 3):
            ticket = tickets[number]
            assert ticket is not None
            ticket.cancel()
        await asyncio.sleep(3)
        assert came == [0, 2]

    run(test())


def test_calls_when_many_are_taken_back_over_time_then_not_all_are_remembered() -> None:
    async def test() -> None:
        user = Turns().join(LOUD)
        for _ in range(50):
            user.calls += 1
            user.was_reset()
            await asyncio.sleep(UNBEGUN_S)
        assert len(user._resets) <= 2

    run(test())


def test_turn_when_it_takes_long_to_find_who_is_next_then_that_is_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The longer the queue, the more each turn costs."""
    seconds = itertools.count(0.0, 0.001)
    monkeypatch.setattr("ktaskd.door.admission.account.time.thread_time", seconds.__next__)

    async def test() -> None:
        debts: list[float] = []
        user = Turns().join(LOUD)
        user.charge(1.0)
        assert user.ask(lambda: debts.append(user.account.pace.debt_s(now())))
        await asyncio.sleep(2.0)
        assert debts
        assert debts[0] >= GRACE_S + 0.0009

    run(test())


def test_ticket_when_it_was_served_then_to_cancel_it_does_not_search_the_line() -> None:
    class Line(deque[Ticket]):
        def remove(self, ticket: Ticket) -> None:
            raise AssertionError("searched")

    async def test() -> None:
        user = Turns().join(LOUD)
        user._waiting = Line()
        user.charge(0.1)
        ticket = user.ask(lambda: None)
        assert ticket is not None
        await asyncio.sleep(1.0)
        ticket.cancel()
        assert not user.account.waiting

    run(test())


def test_debt_when_the_connection_is_over_then_not_forgotten() -> None:
    """Connecting again and again does not clear a debt."""

    async def test() -> None:
        turns = Turns()
        loud = turns.join(LOUD)
        loud.charge(1.0)
        turns.leave(loud)
        for uid in range(100, 200):
            turns.leave(turns.join(uid))
        assert turns.join(LOUD).account.pace.debt_s(now()) > 0.9

    run(test())


def test_users_when_they_left_then_forgotten() -> None:
    async def test() -> None:
        turns = Turns()
        for uid in range(1000):
            for account in (uid, -1):
                user = turns.join(uid, account)
                user.charge(SLICE_S)
                turns.leave(user)
            await asyncio.sleep(10 * SLICE_S)
        assert len(turns._recent) <= 64
        assert len(turns._accounts) <= 64

    run(test())


def test_turn_when_answers_are_not_read_then_waits_for_room() -> None:
    async def test() -> None:
        turns = Turns()
        loud, other = turns.join(LOUD), turns.join(QUIET)
        loud.answers.add(100 * 1024 * 1024)
        assert not loud.take_turn()
        assert other.take_turn(), "it holds nothing itself"
        waits = asyncio.ensure_future(loud.turn())
        await asyncio.sleep(10)
        assert not waits.done()
        loud.answers.drop(100 * 1024 * 1024)
        await waits
        cut = asyncio.ensure_future(loud.turn())
        loud.answers.add(100 * 1024 * 1024)
        await asyncio.sleep(1)
        cut.cancel()
        loud.answers.drop(100 * 1024 * 1024)
        await asyncio.wait([cut])
        assert not turns.answers.waiting

    run(test())
