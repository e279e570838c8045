"""The limit of a job, from its facts alone.

Tests: ktaskd/planner/limiting.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ktaskd.model.job import JobState
from ktaskd.model.story import Situation
from ktaskd.planner.limiting import Width, limit_now, limit_of, width_limit

WIDE = Width(alone="", wanted=4, threads=4, total=10**9, min_chunk=1 << 20)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "MAX_THREADS"),
        ({"max_threads": 8}, "FEW_CPUS"),
        ({"wanted": 2, "threads": 2}, "FEW_CPUS"),
        ({"wanted": 2, "threads": 2, "max_threads": 2}, "MAX_THREADS"),
        ({"wanted": 2, "threads": 2, "total": 2 << 20}, "TOO_SMALL"),
        ({"wanted": 1, "threads": 1, "total": 5}, "TOO_SMALL"),
        ({"wanted": 1, "threads": 1, "total": 0, "min_chunk": 0}, "TOO_SMALL"),
        ({"threads": 2, "cpu_quota": 2.5, "cpus": 8}, "CLIENT_LIMIT"),
        ({"threads": 2, "cpu_quota": 5.0, "cpus": 2}, "CLIENT_CPUS"),
        ({"threads": 2, "cpus": 2}, "CLIENT_CPUS"),
        ({"threads": 2, "cpus": 2, "machine_cpus": 3}, "CLIENT_CPUS"),
        ({"threads": 2, "cpus": 2, "machine_cpus": 2}, "FEW_CPUS"),
        ({"wanted": 1, "threads": 1, "total": 1, "min_chunk": 1, "by_file": True}, "FEW_FILES"),
        ({"by_file": True}, "MAX_THREADS"),
        ({"wanted": 1, "threads": 1, "cpu_quota": 0.1}, "CLIENT_LIMIT"),
        ({"alone": "ONE_WRITER", "wanted": 1, "threads": 1}, "ONE_WRITER"),
        ({"alone": "MEMORY_GROUP", "wanted": 1, "threads": 1, "cpu_quota": 0.1}, "MEMORY_GROUP"),
    ],
)
def test_width_when_it_has_a_limit_then_this_one(changes: dict[str, Any], code: str) -> None:
    assert width_limit(replace(WIDE, **changes)) == code


@pytest.mark.parametrize(
    ("situation", "code"),
    [
        (Situation(JobState.RUNNING, 3, 1), "W"),
        (Situation(JobState.RUNNING, 9, 1), "W"),
        (Situation(JobState.RUNNING, 1, 1), "W"),
        (Situation(JobState.RUNNING, 0, 0), "STARTING"),
        (Situation(JobState.QUEUED), "STARTING"),
        (Situation(JobState.RUNNING, 1, 0, ("DISK_LIMIT", "X")), "DISK_LIMIT"),
        (Situation(JobState.RUNNING, 0, 0, ("CLIENT_LIMIT",)), "CLIENT_LIMIT"),
        (Situation(JobState.QUEUED, 0, 0, ("MODE_PAUSED",)), "MODE_PAUSED"),
        (Situation(JobState.QUEUED, 0, 0, ("WORKERS_BUSY",)), "WORKERS_BUSY"),
        (Situation(JobState.RUNNING, 3, 1, ("STARVED",), 3), "STARVED"),
        (Situation(JobState.RUNNING, 3, 1, ("FEWER",)), "W"),
        (Situation(JobState.RUNNING, 0, 1, ("SATURATED",)), "SATURATED"),
        (Situation(JobState.COMBINING, 1), "COMBINE"),
        (Situation(JobState.DRAINING, 1), "UNDO"),
        (Situation(JobState.UNDOING, 0, 0, ("X",)), "UNDO"),
    ],
)
def test_job_when_in_a_situation_then_one_limit(situation: Situation, code: str) -> None:
    assert limit_now(situation, 4, "W") == code


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        ({}, ""),
        ({"FEW_CPUS": 0.0}, ""),
        ({"FEW_CPUS": 2.0, "WORKERS_BUSY": 3.0}, "WORKERS_BUSY"),
        ({"ONE_WRITER": 2.0, "STARTING": 0.1}, "ONE_WRITER"),
        ({"MAX_THREADS": 5.0, "SATURATED": 1.0}, "SATURATED"),
        ({"MAX_THREADS": 50.0, "SATURATED": 1.0}, "MAX_THREADS"),
        ({"ON_BATTERY": 6.0, "MAX_THREADS": 5.0, "SATURATED": 0.9}, "ON_BATTERY"),
    ],
)
def test_limit_when_there_were_several_then_the_one_of_most_time(
    seconds: dict[str, float], code: str
) -> None:
    assert limit_of(seconds) == code
