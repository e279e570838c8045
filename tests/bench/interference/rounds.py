"""Rounds: every candidate has its turn in each, A B C A B C, so that a slow moment affects all alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleaved(rounds: int, ways: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """The value of each candidate in each round, by its name.

    If a candidate raises, the measurement ends, since its rounds would no longer be comparable.
    """
    found: dict[str, list[T]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return found


def quotients(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """The ratio of each round; both have one value for each round, and `under` has no 0."""
    return tuple(a / b for a, b in zip(over, under, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above.

    Source: the nearest-rank method

    Args:
        values: at least one, ascending.
        share: more than 0, at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, wanted more than 0 and at most 1")
    # Rounded first, since 0.999 * 1000 is a little more than 999 as a float.
    rank = math.ceil(round(share * len(values), 9))
    return values[max(0, rank - 1)]
