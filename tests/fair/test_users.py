"""Real clients of several uids on a real daemon: equal shares, and nobody can use up another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fair.users import KINDS, Share, a_daemon, covered, is_fair, measure, table, worst
from tests.support.users import OtherUsers

TOLERANCE = 0.2
"""One chunk more or less counts with so little CPU time; the longer run has half this tolerance."""
CPU_S = 8.0
"""CPU seconds of all workers together. Under other load it takes longer to get them."""


@pytest.mark.alone
@pytest.mark.other_uid
@pytest.mark.timeout(400)  # on a machine that gives one part in forty
def test_uids_when_their_jobs_differ_then_equal_shares(run_as: OtherUsers) -> None:
    with a_daemon() as daemon:
        shares = measure(run_as, daemon, 8, CPU_S, lambda shares: is_fair(shares, TOLERANCE))
    print(table(shares))
    assert worst(shares) <= TOLERANCE, table(shares)


def share(cpu_s: float, waited: float = 1.0) -> Share:
    return Share(60001, KINDS[0], cpu_s, 0.0, 1, waited)


def test_worst_when_a_uid_did_not_ask_for_more_then_it_may_have_less_and_not_more() -> None:
    assert worst([share(2.0), share(2.0), share(0.2, 0.5)]) == 0.0
    assert worst([share(2.0), share(2.0), share(0.2)]) == pytest.approx(1 - 0.2 / 1.4)
    assert worst([share(2.0), share(2.0), share(3.0, 0.5)]) == pytest.approx(0.5)
    with pytest.raises(AssertionError, match="too few uids"):
        worst([share(2.0), share(2.0, 0.5)])


def test_is_fair_when_too_few_can_be_compared_or_one_has_more_then_not() -> None:
    assert is_fair([share(2.0), share(2.2)], 0.2)
    assert not is_fair([share(2.0), share(3.2)], 0.2)
    assert not is_fair([share(2.0), share(2.0, 0.5)], 0.2)


@given(st.lists(st.tuples(st.integers(-5, 25), st.integers(0, 9)), max_size=8))
def test_covered_when_intervals_overlap_then_as_counted_one_by_one(spans: list[tuple[int, int]]) -> None:
    intervals = [(begin, begin + length) for begin, length in spans]
    counted = sum(any(begin <= at < end for begin, end in intervals) for at in range(20))
    assert covered(intervals, 0, 20) == pytest.approx(counted / 20)
