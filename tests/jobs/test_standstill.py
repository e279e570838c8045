"""Workers that use no CPU or stand still, and what is done about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.standstill import DISK_S, KILL_S, STOPPED_S, Held, Remedy, Sample, Sight, remedy
from ktaskd.model.worker import WorkerClass

LOOK_S = 0.05
STATES = st.sampled_from(["R", "S", "D", "T", "t", "", "I"])
LOOKS = st.lists(st.tuples(STATES, st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=60)
CLASSES = st.sampled_from(list(WorkerClass))
HELD = st.builds(Held, st.booleans(), st.booleans(), st.booleans(), st.booleans())


def seen(looks: list[tuple[str, float, bool]], *, look_s: float = LOOK_S, lowered: bool = False) -> Sight:
    """A worker that had this share of a CPU before each look, in this state; and a quantum or not."""
    at_s, cpu_s, step = 0.0, 0.0, 0
    sight = Sight(Sample(at_s, cpu_s, "R", (step,)))
    for state, share, moves in looks:
        at_s, cpu_s, step = at_s + look_s, cpu_s + share * look_s, step + moves
        sight.look(Sample(at_s, cpu_s, state, (step,)), lowered=lowered)
    return sight


@given(LOOKS)
def test_worker_when_it_has_just_used_the_cpu_then_not_blocked(looks: list[tuple[str, float, bool]]) -> None:
    assert not seen([*looks, ("S", 0.5, False)]).blocked


@given(LOOKS)
def test_worker_when_it_waits_for_a_cpu_then_not_blocked(looks: list[tuple[str, float, bool]]) -> None:
    assert not seen([*looks, ("R", 0.0, False), ("R", 0.0, False)]).blocked


@given(LOOKS, st.sampled_from(["S", "D", "T", "t"]))
def test_worker_when_it_uses_none_and_waits_for_none_then_blocked(
    looks: list[tuple[str, float, bool]], state: str
) -> None:
    assert seen([*looks, (state, 0.01, True), (state, 0.01, True)]).blocked


def test_worker_when_it_polls_and_is_met_running_once_then_still_blocked() -> None:
    polls = [("S", 0.004, False), ("S", 0.004, False), ("R", 0.004, False)]
    assert seen(polls).blocked
    assert not seen([*polls, ("R", 0.004, False)]).blocked


@given(st.floats(0.0, 0.45), st.sampled_from(["R", "S"]))
def test_lead_when_of_low_priority_and_outrun_then_blocked_though_it_could_run(
    share: float, state: str
) -> None:
    assert seen([(state, share, True)] * 2, lowered=True).blocked
    assert not seen([(state, 0.9, True)] * 2, lowered=True).blocked


@given(LOOKS, CLASSES, HELD)
def test_remedy_when_the_worker_moves_then_none(
    looks: list[tuple[str, float, bool]], kind: WorkerClass, held: Held
) -> None:
    for moves in (("S", 0.001, False), ("D", 0.0, True), ("R", 0.0, False)):
        assert remedy(seen([*looks, moves], look_s=1.0), kind, held) is Remedy.NONE


@given(LOOKS, CLASSES, st.booleans(), st.booleans())
def test_remedy_when_the_callers_own_code_has_begun_then_none_ever(
    looks: list[tuple[str, float, bool]], kind: WorkerClass, foreign: bool, repeatable: bool
) -> None:
    held = Held(True, foreign, own=True, repeatable=repeatable)
    assert remedy(seen([*looks, *[("T", 0.0, False)] * 100], look_s=1.0), kind, held) is Remedy.NONE


@given(CLASSES, st.booleans(), st.booleans(), st.sampled_from(["T", "t"]))
def test_remedy_when_stopped_then_resumed_and_if_that_does_not_help_killed(
    kind: WorkerClass, begun: bool, repeatable: bool, state: str
) -> None:
    held = Held(begun, repeatable=repeatable)
    looks = int(STOPPED_S[kind] / 0.5)
    assert remedy(seen([(state, 0.0, False)] * (looks - 1), look_s=0.5), kind, held) is Remedy.NONE
    sight = seen([(state, 0.0, False)] * looks, look_s=0.5)
    assert remedy(sight, kind, held) is Remedy.RESUME
    sight.resumed = True
    assert remedy(sight, kind, held) is Remedy.NONE
    sight.look(Sample(looks * 0.5 + KILL_S, 0.0, state, (0,)))
    assert remedy(sight, kind, held) is Remedy.KILL
    sight.killed = True
    assert remedy(sight, kind, held) is Remedy.NONE


def test_remedy_when_a_library_is_stopped_then_resumed_and_never_killed() -> None:
    sight = seen([("T", 0.0, False)] * 100, look_s=1.0)
    assert remedy(sight, WorkerClass.LEAD, Held(True, foreign=True, repeatable=True)) is Remedy.RESUME
    sight.resumed = True
    assert remedy(sight, WorkerClass.LEAD, Held(True, foreign=True, repeatable=True)) is Remedy.NONE


@pytest.mark.parametrize("state", ["D", "S"])
def test_remedy_when_a_disk_does_not_answer_then_tried_by_another_where_that_may_be(state: str) -> None:
    just = seen([(state, 0.0, False)] * int(DISK_S - 1), look_s=1.0)
    late = seen([(state, 0.0, False)] * int(DISK_S), look_s=1.0)
    for begun in (True, False):
        assert remedy(just, WorkerClass.LEAD, Held(begun, repeatable=True)) is Remedy.NONE
        assert remedy(late, WorkerClass.LEAD, Held(begun, repeatable=True)) is Remedy.KILL
        assert remedy(late, WorkerClass.LEAD, Held(begun)) is Remedy.NONE
