"""Work that concerns all jobs costs little for each of thousands that are queued.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import pytest

from ktaskd.model.allowance import Allowance, Level
from ktaskd.model.job import JobError
from tests.jobs.simulated import READER, Simulation, play

JOBS = 500
CALLS = 4
"""Of functions, for one queued job, in a change of what all may use."""


def calls_during(action: Callable[[], object]) -> int:
    """How many functions of Python are called by it."""
    count = 0

    def note(_: FrameType, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("waited", [False, True])
def test_pause_when_many_jobs_are_queued_then_it_costs_little_for_each(waited: bool) -> None:
    async def story(sim: Simulation) -> None:
        jobs = [sim.submit(READER, 1000, threads=2, waited=waited) for _ in range(JOBS)]
        paused = Allowance({0: 0}, sim.full.leads, sim.full.leads_per_uid, level=Level.PAUSED)
        for allowance in (paused, sim.full, replace(paused, level=Level.LEADS_ONLY), sim.full):
            change = partial(sim.engine.set_allowance, allowance)
            assert calls_during(change) < CALLS * JOBS
        for job in jobs:
            sim.engine.stop(job, JobError("CANCELLED", "as asked"), cancel=True)

    play(story)
