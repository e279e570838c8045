"""The history of a job is complete at both ends, and limited in size.

Tests: ktaskd/jobs/history.py
"""

from __future__ import annotations

import gc
import tracemalloc

from ktaskd.jobs.history import (
    CAUSES_MAX,
    HEAD_KEPT,
    HISTORY_BYTES,
    MOMENTS_MAX,
    SETS_MAX,
    TAIL_KEPT,
    WORDS_MAX,
    History,
)
from ktaskd.model.allowance import Reason
from ktaskd.model.job import JobState
from ktaskd.model.story import Situation

RUNNING = JobState.RUNNING

CODES = tuple(f"CAUSE_{i}" for i in range(44))
"""Constants in the daemon, too, so that a history holds none of their characters."""


def at_work(helpers: int, *causes: str) -> Situation:
    return Situation(RUNNING, helpers, 0, causes)


def filled(changes: int) -> History:
    """A history with that many changes, each of other causes, and with long words."""
    history = History(0.0, 4, "W")
    for i in range(changes):
        codes = CODES[i % 40 : i % 40 + i % 4]
        reasons = [Reason(code, f"{code} {'x' * 60}", "12.3 %", "10 %") for code in codes]
        history.note(float(i), at_work(i % 5, *codes), reasons, recalled=i)
    return history


def test_history_when_nothing_changes_then_one_moment_and_the_time_counts() -> None:
    history = History(0.0, 2, "W")
    for i in range(9):
        history.note(1.0 + i, at_work(2))
    assert [moment.at_s for moment in history.moments] == [1.0]
    story = history.story(10.0)
    assert {cause.code: cause.seconds for cause in story.causes} == {"W": 9.0, "STARTING": 1.0}
    assert story.limit == "W"


def test_history_when_a_change_lasts_for_a_moment_only_then_left_out_with_its_count() -> None:
    history = History(0.0, 2, "W")
    history.note(1.0, at_work(2))
    history.note(2.0, at_work(1), recalled=1)
    history.note(2.001, at_work(3), recalled=2)
    assert [(moment.at_s, moment.situation.helpers, moment.recalled) for moment in history.moments] == [
        (1.0, 2, 0),
        (2.0, 3, 2),
    ]


def test_history_when_the_last_worker_leaves_at_the_end_then_that_is_no_change_of_its_own() -> None:
    history = History(0.0, 2, "W")
    history.note(1.0, at_work(1))
    history.note(1.001, at_work(0))
    history.end(1.002)
    assert [moment.situation.helpers for moment in history.moments] == [1]


def test_history_when_there_are_many_changes_then_the_ends_are_complete_and_nothing_is_uncounted() -> None:
    history = filled(1000)
    moments = history.moments
    assert len(moments) == MOMENTS_MAX
    times = [moment.at_s for moment in moments]
    assert times[:HEAD_KEPT] == [float(i) for i in range(HEAD_KEPT)]
    assert times[-TAIL_KEPT:] == [float(i) for i in range(1000 - TAIL_KEPT, 1000)]
    assert times == sorted(times)
    assert sum(moment.merged + 1 for moment in moments) == 1000
    assert sum(moment.recalled for moment in moments) == 999
    assert sum(cause.seconds for cause in history.story(1000.0).causes) == 1000.0


def test_history_when_clocks_go_back_then_no_time_is_negative() -> None:
    history = History(0.0, 2, "W")
    history.note(5.0, at_work(2))
    history.note(3.0, at_work(1))
    assert all(cause.seconds >= 0 for cause in history.story(4.0).causes)


def test_history_when_full_then_within_its_bytes_and_charged_for_what_it_takes() -> None:
    filled(10)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    histories = [filled(300) for _ in range(8)]
    for history in histories:
        history.end(300.0)
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) / 8
    tracemalloc.stop()
    assert len(histories[0]._sets) <= SETS_MAX
    assert len(histories[0]._times) <= CAUSES_MAX
    assert len(histories[0]._details) <= WORDS_MAX
    assert each <= HISTORY_BYTES
    assert each <= histories[0].held_bytes
