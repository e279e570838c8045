"""Only busy workers that use a CPU count, and blocked ones are bounded."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.holders import Holders
from ktaskd.model.limits import BLOCKED_PER_ACCOUNT_MAX

OPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "block", "wake", "rest", "rise"]), st.integers(0, 11)),
    max_size=120,
)


def uid_of(number: int) -> int:
    return number % 4


@given(OPS)
def test_counts_when_anything_happens_then_those_of_the_workers_one_by_one(
    ops: list[tuple[str, int]],
) -> None:
    holders: Holders[int] = Holders()
    busy: dict[int, str] = {}
    for op, number in ops:
        was = busy.get(number, "")
        if op == "add" and not was:
            holders.add(number, uid_of(number), uid_of(number) // 2, number % 2)
            busy[number] = "active"
        elif op == "remove" and was:
            holders.remove(number)
            del busy[number]
        elif op in ("block", "wake"):
            news = holders.set_blocked(number, blocked=op == "block")
            changes = was == ("active" if op == "block" else "blocked")
            assert news == changes
            if changes:
                busy[number] = "blocked" if op == "block" else "active"
        elif op == "rest" and was:
            holders.rest(number)
            busy[number] = "resting"
        elif op == "rise" and was:
            holders.wake(number)
            if was == "resting":
                del busy[number]  # it is the newest now
                busy[number] = "active"
        check_counts(holders, busy)


def check_counts(holders: Holders[int], busy: dict[int, str]) -> None:
    """All counts are those of the workers, one by one."""
    states = Counter(busy.values())
    active = [number for number, state in busy.items() if state == "active"]
    assert len(holders) == len(busy)
    assert holders.active_total == len(active)
    assert (holders.blocked, holders.resting) == (states["blocked"], states["resting"])
    for nid in (0, 1):
        there = Counter(state for number, state in busy.items() if number % 2 == nid)
        assert holders.busy(nid) == there.total()
        assert holders.active(nid) == there["active"]
        assert holders.blocked_on(nid) == there["blocked"]
    of_uid = Counter(map(uid_of, active))
    assert [holders.active_of(uid) for uid in range(4)] == [of_uid[uid] for uid in range(4)]
    assert holders.newest_active() == active[::-1]


def test_resting_when_too_many_then_those_end_that_have_rested_longest() -> None:
    holders: Holders[int] = Holders(8)
    for number in range(8):
        holders.add(number, number // 6, number // 6, -1)
    assert [holders.rest(number) for number in range(4)] == [[]] * 4
    assert holders.rest(4) == [0], "an account has its share"
    holders.remove(0)
    assert holders.rest(6) == [1], "and all have"
    assert holders.may_begin(0), "none of them keeps another one from work"


@given(st.lists(st.integers(0, 9), max_size=200), st.integers(1, 64))
def test_blocked_when_accounts_begin_as_they_may_then_bounded_in_all_and_for_each(
    accounts: list[int], most: int
) -> None:
    """Each worker that may begin does, and is blocked at once: the worst that can be."""
    holders: Holders[int] = Holders(most)
    counts: Counter[int] = Counter()
    for number, account in enumerate(accounts):
        if holders.may_begin(account):
            holders.add(number, account, account, -1)
            holders.set_blocked(number, blocked=True)
            counts[account] += 1
        assert holders.blocked == counts.total() <= most
        assert counts[account] <= BLOCKED_PER_ACCOUNT_MAX
        for other in range(10):
            if not counts[other] and counts.total() < most:
                assert holders.may_begin(other), "who has none may have one for as long as there is room"


def test_blocked_when_one_account_has_all_that_it_may_then_half_is_left_for_others() -> None:
    holders: Holders[int] = Holders(20)
    number = 0
    while holders.may_begin(1):
        holders.add(number, 1, 1, -1)
        holders.set_blocked(number, blocked=True)
        number += 1
    assert number == 10
    assert holders.may_begin(2)
    holders.remove(0)
    assert holders.may_begin(1)


def test_begin_when_nothing_is_blocked_then_not_bounded_here() -> None:
    holders: Holders[int] = Holders(1)
    for number in range(100):
        assert holders.may_begin(1)
        holders.add(number, 1, 1, -1)
