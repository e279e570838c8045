"""An event is a short walk down: few modules, and none is entered again.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import re
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.jobs.simulated import Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker
from tests.jobs.walk import Walk, helper_at_work, walked

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
MODULES_MAX = 12

EVENTS: dict[str, Callable[[SimulatedWorker], None]] = {
    "a chunk is done": SimulatedWorker.answer,
    "a worker dies": SimulatedWorker.die,
}


def walk_of(event: Callable[[SimulatedWorker], None]) -> Walk:
    walks: list[Walk] = []

    async def story(sim: Simulation) -> None:
        helper = helper_at_work(sim)
        sim.look = lambda: None  # type: ignore[method-assign]
        with walked() as walk:
            event(helper)
        walks.append(walk)

    play(story)
    return walks[0]


@pytest.mark.parametrize("name", EVENTS)
def test_event_when_it_is_walked_then_a_dozen_modules_and_none_is_come_back_to(name: str) -> None:
    walk = walk_of(EVENTS[name])
    assert len(walk.modules) <= MODULES_MAX
    assert walk.lines[0].startswith("engine.on_")
    below = TopologicalSorter[str]()
    for caller, callee in walk.edges:
        below.add(caller, callee)
    below.prepare()  # raises CycleError where a module calls one that has called it


@pytest.mark.skipif(not ARCHITECTURE.exists(), reason="ARCHITECTURE.md is not there")
@pytest.mark.parametrize("name", EVENTS)
def test_walk_when_written_down_then_it_is_this_one(name: str) -> None:
    text = ARCHITECTURE.read_text()
    match = re.search(rf"<!-- walk: {name} -->\s*```\n(.*?)\n```\s*<!-- /walk -->", text, re.DOTALL)
    lines = "\n".join(walk_of(EVENTS[name]).lines)
    assert match, f"write it between <!-- walk: {name} --> and <!-- /walk -->:\n{lines}"
    assert match[1] == lines
