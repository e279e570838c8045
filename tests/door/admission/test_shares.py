"""Limits of uids and accounts: an account gets half of what others leave, and admins always get some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.door.admission.budget import Budget, Purse
from ktaskd.door.admission.shares import RESERVE_PART, Shares
from ktaskd.door.callers.reception import Reception
from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity

TOTAL = 64
ADMIN = Identity(0, 0, 1)


def shares(per_uid: int = TOTAL) -> Shares:
    return Shares("connections", total=TOTAL, per_uid=per_uid, admins=frozenset({0}))


def fill(places: Shares, *callers: Identity) -> int:
    """Take one after the other as long as there are any; return how many."""
    count, going = 0, list(callers)
    while going:
        who = going.pop(0)
        try:
            places.check(who)
        except QuotaFull:
            continue
        places.add(who)
        going.append(who)
        count += 1
    return count


def test_account_when_alone_then_at_most_half_also_with_many_uids() -> None:
    free = TOTAL - TOTAL // RESERVE_PART
    assert fill(shares(), Identity(7, 7, 1)) == free // 2
    assert fill(shares(), *(Identity(uid, 7, 1, account=-1) for uid in range(100, 170))) == free // 2


def test_account_when_others_have_filled_theirs_then_still_finds_a_place() -> None:
    places = shares()
    for account in range(1, 5):
        assert fill(places, Identity(account, 7, 1)) > 0
    assert fill(places, ADMIN) >= TOTAL // RESERVE_PART, "the reserve is still there"
    assert len(places) == TOTAL


def test_uid_when_it_has_its_own_limit_then_named() -> None:
    places = shares(per_uid=2)
    assert fill(places, Identity(7, 7, 1)) == 2
    with pytest.raises(QuotaFull, match="uid 7 has reached its limit of 2"):
        places.check(Identity(7, 7, 1))


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=200))
def test_shares_when_taken_and_given_back_then_never_more_than_half_of_what_is_free(
    steps: list[tuple[int, bool]],
) -> None:
    places, have = shares(), dict.fromkeys(range(7), 0)
    for uid, back in steps:
        who = Identity(uid, 7, 1, account=uid // 2)
        if back and have[uid]:
            places.remove(who)
            have[uid] -= 1
            continue
        try:
            places.check(who)
        except QuotaFull:
            continue
        places.add(who)
        have[uid] += 1
        mine = have[uid // 2 * 2] + have.get(uid // 2 * 2 + 1, 0)
        others = len(places) - mine
        assert uid == 0 or mine <= max((TOTAL - others) // 2, 1)
    assert len(places) == sum(have.values()) <= TOTAL


def test_nobody_when_it_connects_then_refused_whoever_the_daemon_is() -> None:
    reception = Reception(nobody=65534, admins=frozenset({0, 65534}))
    with pytest.raises(IdentityMissing, match="uid 65534 stands for every user"):
        reception.identify(1, 65534, 65534)
    assert reception.identify(1, 65533, 1) == Identity(65533, 1, 1)
    assert Reception(account_of=lambda uid: -1).identify(1, 5, 5).payer == -1


def test_room_when_few_descriptors_are_left_then_kept_for_admins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (100, 100))
    reception = Reception(admins=frozenset({0}))
    user = replace(ADMIN, uid=7)
    reception.check_room(user, 74)
    reception.check_room(ADMIN, 83)
    for who, fd in ((user, 75), (ADMIN, 84)):
        with pytest.raises(QuotaFull, match="the daemon's limit of 100"):
            reception.check_room(who, fd)


def test_descriptors_when_an_account_would_hold_more_than_half_then_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (400, 400))
    reception = Reception(admins=frozenset({0}))
    user = replace(ADMIN, uid=7)
    reception.check_share(user, 100, 100)
    reception.check_share(ADMIN, 300, 100)
    with pytest.raises(QuotaFull, match="more than half of what others leave"):
        reception.check_share(user, 101, 100)


# -- bytes ----------------------------------------------------------------------------


def noted(calls: list[str], name: str) -> Callable[[], None]:
    return lambda: calls.append(name)


def test_purse_when_its_account_is_full_then_over_unless_it_holds_little() -> None:
    budget = Budget(free=10, account=100, total=1000)
    large, small, other = Purse(budget, 1), Purse(budget, 1), Purse(budget, 2)
    large.add(101)
    small.add(10)
    other.add(50)
    assert [purse.is_over for purse in (large, small, other)] == [True, False, False]
    large.drop(12)
    assert not large.is_over


def test_purse_when_all_accounts_are_full_then_whoever_holds_much_waits() -> None:
    budget = Budget(free=10, account=100, total=310)
    purses = [Purse(budget, number) for number in range(4)]
    for purse in purses[:3]:
        purse.add(100)
    purses[3].add(10)
    assert not any(purse.is_over for purse in purses)
    purses[3].add(1)
    assert [purse.is_over for purse in purses] == [True, True, True, False]


def test_purse_when_all_accounts_are_full_then_one_that_holds_its_share_goes_on() -> None:
    """Many small connections of one account do not hold up other accounts."""
    budget = Budget(free=10, account=100, total=300)
    for _ in range(40):
        Purse(budget, 1).add(10)
    mine = Purse(budget, 2)
    mine.add(25)
    assert not mine.is_over
    mine.add(1)
    assert mine.is_over


def test_purse_when_all_together_have_room_again_then_called_though_the_one_that_gave_it_is_full() -> None:
    calls: list[str] = []
    budget = Budget(free=10, account=100, total=300)
    greedy, waiting = Purse(budget, 1), Purse(budget, 2)
    greedy.add(290)
    waiting.add(50)
    waiting.wait(noted(calls, "waiting"))
    greedy.drop(41)
    assert (calls, greedy.is_over) == (["waiting"], True)


def test_purse_when_there_is_room_again_then_all_of_the_account_are_called_once() -> None:
    calls: list[str] = []
    budget = Budget(free=10, account=100, total=1000)
    one, two = Purse(budget, 1), Purse(budget, 1)
    one.add(60)
    two.add(60)
    forgotten = noted(calls, "forgotten")
    one.wait(noted(calls, "one"))
    two.wait(noted(calls, "two"))
    two.wait(forgotten)
    two.forget(forgotten)
    one.drop(10)
    assert calls == []
    one.drop(20)
    assert sorted(calls) == ["one", "two"]
    assert not budget.waiting


def test_purse_when_it_holds_little_again_then_called_though_the_account_is_full() -> None:
    calls: list[str] = []
    budget = Budget(free=10, account=100, total=1000)
    large, small = Purse(budget, 1), Purse(budget, 1)
    large.add(200)
    small.add(20)
    small.wait(noted(calls, "small"))
    small.drop(10)
    assert calls == ["small"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=60))
def test_ledger_when_anything_is_added_and_dropped_then_the_sums_are_right(
    steps: list[tuple[int, int]],
) -> None:
    budget = Budget(free=10, account=100, total=300)
    purses = [Purse(budget, number % 2) for number in range(4)]
    for i, count in steps:
        if count % 2:
            purses[i].drop(min(count, purses[i].held))
        else:
            purses[i].add(count)
        assert budget.total == sum(purse.held for purse in purses) <= budget.peak
    for purse in purses:
        purse.drop(purse.held)
    assert not budget._by_account
