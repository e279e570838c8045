"""Leases need fewer messages than the chunks that they have replaced, and keep workers as busy.

Tests: ktaskd/planner/leases.py
"""

from __future__ import annotations

import subprocess
import sys
from random import Random

import pytest

from tests.planner.leasing.rules import Chunks, Leases
from tests.planner.leasing.scenarios import SCENARIOS, Scenario, simulate
from tests.planner.leasing.speed import RATE, Speed
from tests.planner.leasing.table import PAGE, with_table

UNFAIR_MAX = 0.06
FEW = [scenario for scenario in SCENARIOS if scenario.workers <= 16 and scenario.threads > 16]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_leases_when_beside_chunks_then_no_worse(scenario: Scenario) -> None:
    chunks, leases = simulate(scenario, Chunks), simulate(scenario, Leases)
    assert leases.messages <= chunks.messages
    assert leases.over_ideal <= 1.02 * chunks.over_ideal
    assert leases.daemon_s <= 1.5 * chunks.daemon_s
    assert leases.unfair <= UNFAIR_MAX


@pytest.mark.parametrize("scenario", FEW, ids=lambda scenario: scenario.name)
def test_leases_when_workers_are_few_then_hardly_any_time_is_lost(scenario: Scenario) -> None:
    assert simulate(scenario, Leases).over_ideal <= 1.05


@pytest.mark.parametrize("scenario", SCENARIOS[:2], ids=lambda scenario: scenario.name)
def test_leases_when_two_workers_are_equal_then_two_messages_each(scenario: Scenario) -> None:
    assert simulate(scenario, Leases).messages == 4


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.workers == 256 and not s.starves])
def test_leases_when_workers_are_many_then_no_storm(scenario: Scenario) -> None:
    leases = simulate(scenario, Leases)
    assert leases.steals <= scenario.workers / 4
    assert leases.messages <= 3 * scenario.workers


def test_page_when_committed_then_what_the_simulation_prints() -> None:
    text = PAGE.read_text()
    assert with_table(text) == text, "run `python -m tests.planner.leasing --write`"


def test_program_when_asked_for_help_then_it_says_what_it_does() -> None:
    command = [sys.executable, "-m", "tests.planner.leasing", "--help"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "--write" in said


@pytest.mark.parametrize("seed", range(20))
def test_speed_when_it_changes_then_time_and_work_agree(seed: int) -> None:
    random = Random(seed)
    speed = Speed(Random(seed), changes=True, starves=True)
    for _ in range(50):
        begin_s, positions = random.uniform(0, 3), random.uniform(1, RATE)
        end_s = speed.when(begin_s, positions)
        assert end_s >= begin_s
        assert speed.done(end_s) - speed.done(begin_s) == pytest.approx(positions, rel=1e-6, abs=4096)
