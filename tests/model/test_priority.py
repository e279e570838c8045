"""A worker that stands in for a process never has a higher priority than that process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.priority import Priority

IOPRIOS = ["none", "idle", "", "other", "realtime:0", "best-effort:7", "best-effort:0"]
PRIORITIES = st.builds(
    Priority,
    st.sampled_from(["normal", "batch", "idle", "other"]),
    st.integers(-20, 19),
    st.sampled_from(IOPRIOS),
)


@given(PRIORITIES, PRIORITIES)
def test_stand_in_when_for_anybody_then_no_more_than_both(caller: Priority, base: Priority) -> None:
    got = caller.standing_in(base)
    assert got.nice >= max(caller.nice, base.nice, 0)
    assert (
        got.policy == "idle" if "idle" in (caller.policy, base.policy) else got.policy in ("normal", "batch")
    )
    assert not got.ioprio.startswith("realtime") or base.ioprio.startswith("realtime")
    assert got.ioprio == "idle" or "idle" not in (caller.ioprio, base.ioprio)
    assert caller.standing_in(got) == got, "it stays what it is"
    assert got.lowered or not caller.lowered


@pytest.mark.parametrize(
    ("caller", "wanted"),
    [
        (Priority(), Priority()),
        (Priority("normal", -10, "realtime:3"), Priority("normal", 0, "best-effort:3")),
        (Priority("other", 0, "none"), Priority()),
        (Priority("batch", 7, "idle"), Priority("batch", 7, "idle")),
        (Priority("idle", 19, ""), Priority("idle", 19, "none")),
    ],
)
def test_stand_in_when_for_a_caller_then_that_callers_priority(caller: Priority, wanted: Priority) -> None:
    assert caller.standing_in(Priority()) == wanted


@pytest.mark.parametrize("base", [Priority("idle", 19, "idle"), Priority("normal", 5, "idle")])
def test_stand_in_when_the_worker_was_started_low_then_it_stays_so(base: Priority) -> None:
    assert Priority().standing_in(base) == base
