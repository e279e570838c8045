"""Only busy workers that use a CPU count, and blocked ones are bounded."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.holders import Holders
from ktaskd.model.limits import BLOCKED_PER_ACCOUNT_MAX

OPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "block", "wake"]), st.integers(0, 11)), max_size=120
)


def uid_of(number: int) -> int:
    return number % 4


@given(OPS)
def test_counts_when_anything_happens_then_those_of_the_workers_one_by_one(
    ops: list[tuple[str, int]],
) -> None:
    holders: Holders[int] = Holders()
    busy: dict[int, bool] = {}
    for op, number in ops:
        if op == "add" and number not in busy:
            holders.add(number, uid_of(number), uid_of(number) // 2, number % 2)
            busy[number] = False
        elif op == "remove" and number in busy:
            holders.remove(number)
            del busy[number]
        elif op in ("block", "wake"):
            news = holders.set_blocked(number, blocked=op == "block")
            assert news == (number in busy and busy[number] != (op == "block"))
            if number in busy:
                busy[number] = op == "block"
        active = [number for number, blocked in busy.items() if not blocked]
        assert (len(holders), holders.active_total, holders.blocked) == (
            len(busy),
            len(active),
            len(busy) - len(active),
        )
        assert [holders.busy(nid) for nid in (0, 1)] == [
            sum(number % 2 == nid for number in busy) for nid in (0, 1)
        ]
        assert [holders.active(nid) for nid in (0, 1)] == [
            sum(number % 2 == nid for number in active) for nid in (0, 1)
        ]
        of_uid = Counter(map(uid_of, active))
        assert [holders.active_of(uid) for uid in range(4)] == [of_uid[uid] for uid in range(4)]
        assert holders.newest_active() == active[::-1]


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
