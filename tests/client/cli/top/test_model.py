"""The state of `ktask top` after any messages and keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.cli.top.jobs import short_duration
from ktask.cli.top.keys import names_of
from ktask.cli.top.model import (
    HISTORY,
    Cancel,
    Event,
    Explain,
    Key,
    Lost,
    Message,
    Note,
    Page,
    Quit,
    SetMode,
    Size,
    State,
    Story,
    number_in,
    reduce,
)
from ktask.cli.top.rates import Samples, rate_of, sampled
from ktask.cli.top.screen import lines_of
from ktask.cli.top.sorting import Sort
from ktask.results import JobState
from ktask.status import Present

from tests.client.cli.top import scenes

KEYS = ["up", "down", "k", "j", "page up", "page down", "home", "end", "s", "r", "c", "y", "e", "enter", "p"]
SCENES = [scenes.busy, scenes.on_battery, scenes.paused]

events = st.one_of(
    st.sampled_from([*KEYS, "h", "?", "x", "escape"]).map(Key),
    st.builds(
        lambda scene, step, at_s: Message(scene(step), at_s, scenes.USERS),
        st.sampled_from(SCENES),
        st.integers(0, 60),
        st.floats(0, 1e6),
    ),
    st.builds(Size, st.integers(1, 250), st.integers(1, 60)),
    st.text().map(Lost),
    st.text().map(Note),
    st.text().map(Story),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(events, max_size=15))
def test_view_when_anything_happens_then_each_frame_fits_and_no_control_sign_is_in_it(
    happened: list[Event],
) -> None:
    state = State(Size(80, 24))
    for event in happened:
        state, action = reduce(state, event)
        assert not isinstance(action, Quit)
        if isinstance(action, Cancel | Explain):
            assert state.present is not None
            assert action.id in {job.id for job in state.present.jobs}
        if state.present is not None and state.present.jobs:
            assert state.job is not None
        assert all(len(values) <= HISTORY for values in state.history.values())
        assert state.present is None or state.samples.keys() == {job.id for job in state.present.jobs}
    lines = lines_of(state)
    assert len(lines) == state.size.rows
    for line in lines:
        assert line.cell_len <= state.size.columns
        assert line.plain.isprintable()
    assert all(line.plain.isascii() for line in lines_of(state, plain=True))


def pressed(state: State, *keys: str) -> tuple[State, object]:
    action: object = None
    for key in keys:
        state, action = reduce(state, Key(key))
    return state, action


def test_cancel_when_confirmed_then_the_selected_job_and_else_nothing() -> None:
    state = scenes.shown(scenes.busy, 80, 24)
    second = state.jobs[1].id
    asked, action = pressed(state, "down", "c")
    assert (asked.asks, action) == (second, None)
    assert pressed(asked, "y")[1] == Cancel(second)
    for key in ("n", "q", "c", "escape"):
        after, action = pressed(asked, key)
        assert (after.asks, after.note, action) == ("", "not cancelled", None)


def test_cancel_when_the_job_has_ended_then_it_is_not_asked_for() -> None:
    state = scenes.shown(scenes.busy, 80, 24)
    after, action = pressed(state, "end", "c")
    assert (after.asks, action) == ("", None)
    assert "has ended" in after.note


def test_pause_when_paused_then_auto_and_else_paused() -> None:
    assert pressed(scenes.shown(scenes.busy, 80, 24), "p")[1] == SetMode("paused")
    assert pressed(scenes.shown(scenes.paused, 80, 24), "p")[1] == SetMode("auto")
    assert pressed(State(Size(80, 24)), "p")[1] is None


def test_selection_when_its_job_goes_then_the_row_stays_and_when_jobs_move_then_the_job_stays() -> None:
    state = pressed(scenes.shown(scenes.busy, 80, 24), "down", "down")[0]
    third = state.selected
    assert third == state.jobs[2].id
    resorted, _ = pressed(state, "s", "r")
    assert resorted.selected == third
    assert state.present is not None
    jobs = tuple(job for job in state.present.jobs if job.id != third)
    state, _ = reduce(state, Message(replace(state.present, jobs=jobs), 99.0))
    assert state.selected == state.jobs[2].id


def test_story_when_it_is_longer_than_the_screen_then_scrolled_and_any_other_key_returns() -> None:
    state, action = pressed(scenes.shown(scenes.busy, 80, 24), "e")
    assert action == Explain(state.selected)
    state, _ = reduce(state, Story("\n".join(f"line {i}" for i in range(100))))
    assert lines_of(state)[0].plain == "line 0"
    state, _ = pressed(state, "down", "page down")
    assert lines_of(state)[0].plain == "line 11"
    assert lines_of(pressed(state, "end")[0])[-2].plain == "line 99"
    assert pressed(state, "x")[0].page is Page.JOBS


@pytest.mark.parametrize("sort", list(Sort))
def test_jobs_when_sorted_then_all_are_there_and_reversed_is_the_other_way(sort: Sort) -> None:
    state = replace(scenes.shown(scenes.busy, 80, 24), sort=sort)
    assert {job.id for job in state.jobs} == {job.id for job in scenes.jobs(0)}
    assert replace(state, reverse=True).jobs == state.jobs[::-1]


def test_jobs_when_sorted_then_in_the_order_of_what_they_are_sorted_by() -> None:
    state = scenes.shown(scenes.busy, 80, 24)
    order = {sort: [job.function for job in replace(state, sort=sort).jobs] for sort in Sort}
    assert order[Sort.STATE][3:] == ["file.blake3", "mem.fill", "file.copy"]
    assert order[Sort.RATE][:3] == ["file.sha256", "file.compress", "text.search"]
    assert order[Sort.LEFT][:3] == ["file.compress", "text.search", "file.sha256"]
    assert order[Sort.DONE][:2] == ["mem.fill", "file.compress"]
    assert order[Sort.USER][-1] == "text.search"
    assert order[Sort.FUNCTION] == sorted(order[Sort.FUNCTION])


def test_rate_when_progress_is_even_then_exact_and_after_work_was_taken_back_measured_anew() -> None:
    samples: Samples = {}
    for second in range(10):
        job = scenes.job(1, "f", "a", done=second / 100, total=1000)
        samples = sampled(samples, [job], float(second))
    rate = rate_of(job, samples)
    assert rate is not None
    assert (rate.positions, rate.bytes, rate.left_s) == (10.0, 10.0, 91.0)
    assert len(samples[job.id]) == 6
    back = scenes.job(1, "f", "a", done=0.01, total=1000)
    assert rate_of(back, sampled(samples, [back], 10.0)) is None
    ended = scenes.job(1, "f", "a", JobState.SUCCEEDED, done=1.0, total=1000)
    assert rate_of(ended, sampled(samples, [ended], 10.0)) is None


def test_connection_when_lost_then_said_until_a_message_comes() -> None:
    state, _ = reduce(scenes.shown(scenes.busy, 80, 24), Lost("the daemon\nhas ended"))
    assert "no connection, trying again: the daemon\\nhas ended" in lines_of(state)[1].plain
    state, _ = reduce(state, Message(Present(scenes.status(1, 2, 0)), 1.0))
    assert not any("no connection" in line.plain for line in lines_of(state))


@given(st.binary(max_size=40), st.integers(0, 40))
def test_keys_when_they_come_in_pieces_then_the_same_keys(data: bytes, cut: int) -> None:
    whole, rest = names_of(data)
    first, begun = names_of(data[:cut])
    if data[:cut].endswith(b"\x1b"):
        return  # a lone escape is a key at once
    second, after = names_of(begun + data[cut:])
    assert (first + second, after) == (whole, rest)


def test_keys_when_known_then_named() -> None:
    names, rest = names_of(b"q\x1b[A\x1bOB\x1b[5~\x1b[99xy\r\xc3\xa4\x1b")
    assert (names, rest) == (["q", "up", "down", "page up", "y", "enter", "escape"], b"")
    assert names_of(b"a\x1b[") == (["a"], b"\x1b[")


@given(st.floats(0, 1e12))
def test_duration_when_any_then_at_most_six_signs(seconds: float) -> None:
    assert len(short_duration(seconds)) <= 6


def test_duration_when_long_then_in_two_units() -> None:
    words = [short_duration(seconds) for seconds in (9.4, 185, 7380, 360_000, 1e9)]
    assert words == ["9s", "3m05s", "2h03m", "4d04h", ">100d"]


def test_reading_when_it_has_a_number_then_it() -> None:
    assert number_in("nominal, 45.5 °C, trip point at 95 °C") == 45.5
    assert number_in("12.3 % of the time") == 12.3
    assert number_in("no signal") is None
