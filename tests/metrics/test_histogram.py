"""Buckets of durations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.metrics.histogram import SECONDS, Histogram


@given(st.lists(st.floats(-10, 1e6)))
def test_buckets_when_durations_are_added_then_each_bound_has_those_up_to_it(added: list[float]) -> None:
    histogram = Histogram()
    for seconds in added:
        histogram.add(seconds)
    buckets = histogram.buckets()
    assert buckets[-1] == ("+Inf", len(added))
    for bound, count in buckets[:-1]:
        assert count == sum(max(seconds, 0.0) <= float(bound) for seconds in added)
    assert [float(bound) for bound, _ in buckets[:-1]] == sorted(SECONDS)
    assert histogram.sum_s >= 0
