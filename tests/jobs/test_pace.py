"""Leads at the pace of their caller's quota: whatever they do, no more than it gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.pace import PERIOD_S, SLACK_S, Pacer


@given(
    quota=st.sampled_from([0.1, 0.5, 0.9, 1.0, 1.5, 2.0, 7.5]),
    leads=st.integers(1, 4),
    chunks=st.lists(st.floats(0.0001, 0.5), min_size=30, max_size=120),
)
def test_leads_when_paced_then_no_more_than_the_quota_in_the_long_run(
    quota: float, leads: int, chunks: list[float]
) -> None:
    """Leads of one caller take chunks in turn, each as soon as it may."""
    pacer, free_s, used_s, end_s = Pacer(), [0.0] * leads, 0.0, 0.0
    for cpu_s in chunks:
        # The lead that is free first is next; it waits as long as the pacer says.
        i = min(range(leads), key=free_s.__getitem__)
        start_s = free_s[i] + pacer.wait_s("caller", quota, free_s[i])
        free_s[i] = start_s + cpu_s
        pacer.charge("caller", cpu_s, quota, free_s[i], took_s=cpu_s)
        used_s, end_s = used_s + cpu_s, max(end_s, free_s[i])
    # Ahead by what is in hand, and by what a period and the longest chunk may save.
    ahead_s = (leads + 1) * max(chunks) * max(quota, 1.0) + quota * PERIOD_S + SLACK_S
    assert used_s <= quota * end_s + ahead_s


def test_lead_when_alone_with_half_a_cpu_then_it_gets_all_of_that_half() -> None:
    pacer, now, used_s = Pacer(), 0.0, 0.0
    for _ in range(100):
        now += pacer.wait_s("caller", 0.5, now)
        now += 0.1
        used_s += 0.1
        pacer.charge("caller", 0.1, 0.5, now, took_s=0.1)
    assert 0.49 <= used_s / now <= 0.51


def test_lead_when_its_chunk_is_long_then_it_waits_as_long_as_the_quota_needs() -> None:
    pacer = Pacer()
    pacer.charge("caller", 2.0, 0.5, 2.0, took_s=2.0)
    assert pacer.wait_s("caller", 0.5, 2.0) == 2.0
    assert pacer.wait_s("caller", 0.5, 3.0) == 1.0
    assert pacer.wait_s("caller", 0.5, 4.0) == 0.0


def test_lead_when_there_is_no_quota_or_another_caller_then_it_never_waits() -> None:
    pacer = Pacer()
    pacer.charge("caller", 9.0, 0.5, 1.0)
    assert pacer.wait_s("other", 0.5, 1.0) == 0.0
    assert pacer.wait_s("caller", 0.0, 1.0) == 0.0
    pacer.charge("other", 9.0, 0.0, 1.0)
    assert pacer.wait_s("other", 0.5, 1.0) == 0.0


def test_pacer_when_many_callers_were_there_then_it_forgets_them() -> None:
    pacer = Pacer()
    for i in range(1000):
        pacer.charge(i, 0.1, 0.5, float(i))
    assert len(pacer._accounts) <= 130
