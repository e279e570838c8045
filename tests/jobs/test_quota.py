"""Bytes by account: nobody takes more than half of what the others leave."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.quota import JointQuota, Quota

changes = st.lists(st.tuples(st.integers(1, 5), st.integers(-40, 40)), max_size=60)


@given(changes, st.integers(0, 100))
def test_ledger_when_accounts_take_what_there_is_then_each_leaves_a_half(
    wanted: list[tuple[int, int]], most: int
) -> None:
    quota, model = Quota(most), Counter[int]()
    for account, count in wanted:
        if count < 0:
            count = -min(-count, model[account])
        others = model.total() - model[account]
        fits = 2 * (model[account] + count) <= most - others
        assert quota.has_room(account, count) == fits
        if count < 0 or fits:
            quota.charge(account, count)
            model[account] += count
        assert quota.total == model.total() <= most
        assert all(quota.of(one) == model[one] for one in range(1, 6))
        if model.total():
            assert quota.of(quota.fullest) == max(model.values())


def test_ledger_when_one_account_has_all_it_may_then_another_finds_room() -> None:
    quota = Quota(100)
    quota.charge(1, 50)
    assert not quota.has_room(1, 1)
    assert quota.has_room(2, 25)
    assert not quota.has_room(2, 26)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.integers(-40, 40)), max_size=60))
def test_ledgers_when_they_have_one_sum_then_no_account_holds_more_than_that_in_all(
    wanted: list[tuple[int, int, int]],
) -> None:
    held = JointQuota(90)
    quotas, times = (Quota(150, held), Quota(40, held, 3)), (1, 3)
    for i, account, count in wanted:
        quota = quotas[i]
        before = sum(one.of(account) * each for one, each in zip(quotas, times, strict=True))
        if count < 0:
            quota.charge(account, -min(-count, quota.of(account)))
        elif quota.has_room(account, count):
            quota.charge(account, count)
            assert before + count * times[i] <= 90
        else:
            others = quota.total - quota.of(account)
            alone = 2 * (quota.of(account) + count) <= quota.most - others
            assert not (alone and before + count * times[i] <= 90)
        now = sum(one.of(account) * each for one, each in zip(quotas, times, strict=True))
        assert held.left(account) == 90 - now
