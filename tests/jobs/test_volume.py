"""The bytes that a job is about, and those that it has processed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ktaskd.jobs.volume import ITEMS_EXAMINED, processed_bytes, volume


def job(completed: int, total: int, unit: int, lengths: list[int]) -> Any:
    items = tuple(SimpleNamespace(facts=SimpleNamespace(size=length)) for length in lengths)
    plan, checked = SimpleNamespace(total=total), SimpleNamespace(position_bytes=unit)
    return SimpleNamespace(completed=completed, plan=plan, checked=checked, items=items)


@pytest.mark.parametrize(
    ("completed", "unit", "lengths", "whole", "part"),
    [
        (3, 1, [], 10, 3),
        (3, 8, [], 80, 24),
        (5, 0, [], 0, 0),
        (10, 0, [7] * 10, 70, 70),
        (4, 0, [7] * 10, 70, 28),
        (0, 0, [7] * 10, 70, 0),
    ],
)
def test_volume_when_positions_are_bytes_or_files_then_bytes(
    completed: int, unit: int, lengths: list[int], whole: int, part: int
) -> None:
    made = job(completed, 10, unit, lengths)
    assert (volume(made), processed_bytes(made)) == (whole, part)


def test_volume_when_there_are_many_files_then_the_first_ones_stand_for_all() -> None:
    count = 20 * ITEMS_EXAMINED
    made = job(count, count, 0, [6] * ITEMS_EXAMINED + [10**9] * (count - ITEMS_EXAMINED))
    assert volume(made) == processed_bytes(made) == 6 * count
