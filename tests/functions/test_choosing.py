"""A worker comes to use the way that costs less, and finds out when that changes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ktaskd.functions.choosing import TRIED_AGAIN, Fastest


def ways_taken(quanta: int, cost: Callable[[int, int], int]) -> list[int]:
    """The way of each quantum, if quantum `i` costs `cost(way, i)`."""
    now = 0
    fastest, taken = Fastest(lambda: now), []
    for i in range(quanta):
        way = fastest.begin()
        now += cost(way, i)
        fastest.end(1)
        taken.append(way)
    return taken


@pytest.mark.parametrize("best", [0, 1])
def test_fastest_when_one_way_costs_less_then_nearly_all_quanta_go_there(best: int) -> None:
    taken = ways_taken(2000, lambda way, _: 100 if way == best else 400)
    assert taken[0] == 0
    assert taken.count(1 - best) < 20


def test_fastest_when_single_quanta_are_held_up_then_it_stays() -> None:
    rng = random.Random(1)
    taken = ways_taken(2000, lambda way, _: (400 if way else 100) * (50 if rng.random() < 0.2 else 1))
    assert taken.count(1) < 60


@pytest.mark.parametrize("best", [0, 1])
def test_fastest_when_the_costs_change_then_it_changes_too(best: int) -> None:
    taken = ways_taken(4000, lambda way, i: 100 if (way == best) == (i < 2000) else 400)
    assert taken[1000:2000].count(best) > 980
    settled = 2000 + TRIED_AGAIN[1] + 10
    assert taken[settled:].count(1 - best) > len(taken[settled:]) - 20
