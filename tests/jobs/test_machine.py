"""The life of a job is the table, the whole table and nothing but the table."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from ktaskd.jobs import machine
from ktaskd.jobs.machine import IGNORE, NEXT, Event, IllegalTransition, picture, step
from ktaskd.model.job import JobState

ARCHITECTURE = Path(__file__).resolve().parents[2] / "ARCHITECTURE.md"


@pytest.mark.parametrize(("state", "event"), list(product(JobState, Event)))
def test_step_when_listed_then_as_the_table_says_else_illegal(state: JobState, event: Event) -> None:
    if (state, event) in NEXT:
        after = NEXT[state, event]
        assert step(state, event) is (state if after is IGNORE else after)
        return
    with pytest.raises(IllegalTransition) as caught:
        step(state, event)
    assert state.name in str(caught.value)
    assert f'"{event.value}"' in str(caught.value)


@pytest.mark.parametrize("state", JobState)
def test_stop_when_it_comes_from_outside_then_legal_in_every_state(state: JobState) -> None:
    after = step(state, Event.STOP)
    assert after is state or after is JobState.DRAINING


def reachable() -> set[JobState]:
    found, rest = set[JobState](), [JobState.QUEUED]
    while rest:
        state = rest.pop()
        if state not in found:
            found.add(state)
            rest += [after for (before, _), after in NEXT.items() if before is state and after]
    return found


def test_states_when_followed_from_queued_then_all_are_reached() -> None:
    assert reachable() == set(JobState)


def test_states_when_ended_then_there_is_no_way_out() -> None:
    for (state, event), after in NEXT.items():
        if state.ended:
            assert (event, after) == (Event.STOP, IGNORE)


def test_states_when_not_ended_then_a_stopped_job_ends() -> None:
    state = step(step(JobState.RUNNING, Event.STOP), Event.DRAINED)
    ends = {step(state, event) for event in (Event.END_FAILED, Event.END_CANCELLED, Event.END_DIRTY)}
    assert ends == {JobState.FAILED, JobState.CANCELLED, JobState.DIRTY}


def test_picture_when_drawn_then_has_every_transition_once() -> None:
    arrows = re.findall(r"^    (\w+) --> (\w+): (.+)$", picture(), re.MULTILINE)
    wanted = [(state.name, after.name, event.value) for (state, event), after in NEXT.items() if after]
    assert arrows == wanted
    assert machine.__doc__


@pytest.mark.skipif(not ARCHITECTURE.exists(), reason="ARCHITECTURE.md is not there")
def test_picture_when_written_down_then_it_is_this_one() -> None:
    text = ARCHITECTURE.read_text()
    match = re.search(r"<!-- machine -->\s*```mermaid\n(.*?)\n?```\s*<!-- /machine -->", text, re.DOTALL)
    assert match, "the picture between the markers <!-- machine --> and <!-- /machine -->"
    assert match[1].strip() == picture().strip()
