"""A meter's debt: paid off by time, and bounded.

Guards: I12
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.door.admission.meter import DEBT_MAX_S, Meter


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), max_size=50))
def test_meter_when_charged_then_the_debt_is_paid_off_by_time_and_bounded(
    steps: list[tuple[float, float]],
) -> None:
    meter, now_s, used_s = Meter(), 100.0, 0.0
    for pause_s, cost_s in steps:
        now_s += pause_s
        before_s = max(meter.debt_s(now_s), 0.0)
        meter.charge(now_s, cost_s)
        used_s += cost_s
        assert abs(meter.debt_s(now_s) - min(before_s + cost_s, DEBT_MAX_S)) < 1e-6
        assert meter.debt_s(now_s) <= used_s + 1e-6
