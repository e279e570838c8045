"""Bytes by account: nobody takes more than half of what the others leave."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.ledger import Ledger, Sum

changes = st.lists(st.tuples(st.integers(1, 5), st.integers(-40, 40)), max_size=60)


@given(changes, st.integers(0, 100))
def test_ledger_when_accounts_take_what_there_is_then_each_leaves_a_half(
    wanted: list[tuple[int, int]], most: int
) -> None:
    ledger, model = Ledger(most), Counter[int]()
    for account, count in wanted:
        if count < 0:
            count = -min(-count, model[account])
        others = model.total() - model[account]
        fits = 2 * (model[account] + count) <= most - others
        assert ledger.has_room(account, count) == fits
        if count < 0 or fits:
            ledger.charge(account, count)
            model[account] += count
        assert ledger.total == model.total() <= most
        assert all(ledger.of(one) == model[one] for one in range(1, 6))
        if model.total():
            assert ledger.of(ledger.fullest) == max(model.values())


def test_ledger_when_one_account_has_all_it_may_then_another_finds_room() -> None:
    ledger = Ledger(100)
    ledger.charge(1, 50)
    assert not ledger.has_room(1, 1)
    assert ledger.has_room(2, 25)
    assert not ledger.has_room(2, 26)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.integers(-40, 40)), max_size=60))
def test_ledgers_when_they_have_one_sum_then_no_account_holds_more_than_that_in_all(
    wanted: list[tuple[int, int, int]],
) -> None:
    held = Sum(90)
    ledgers, times = (Ledger(150, held), Ledger(40, held, 3)), (1, 3)
    for i, account, count in wanted:
        ledger = ledgers[i]
        before = sum(one.of(account) * each for one, each in zip(ledgers, times, strict=True))
        if count < 0:
            ledger.charge(account, -min(-count, ledger.of(account)))
        elif ledger.has_room(account, count):
            ledger.charge(account, count)
            assert before + count * times[i] <= 90
        else:
            others = ledger.total - ledger.of(account)
            alone = 2 * (ledger.of(account) + count) <= ledger.most - others
            assert not (alone and before + count * times[i] <= 90)
        now = sum(one.of(account) * each for one, each in zip(ledgers, times, strict=True))
        assert held.left(account) == 90 - now
