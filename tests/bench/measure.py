"""Figures with their spread and goal, and tables of them. Uses no clock."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, minimum and maximum of several measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a median: at least, or at most."""

    bound: float
    at_least: bool

    def met(self, value: float) -> bool:
        """Whether a value is on the right side."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        """As in ">= 1.8"."""
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table.

    Args:
        unit: of the spread; "" for a ratio.
        goal: None = no goal.
        about: further information.
    """

    name: str
    spread: Spread
    unit: str = ""
    goal: Goal | None = None
    about: str = ""

    @property
    def verdict(self) -> str:
        """PASS, MISS, or nothing."""
        if self.goal is None:
            return ""
        return "PASS" if self.goal.met(self.spread.median) else "MISS"

    def as_json(self) -> dict[str, Any]:
        """The figure for programs."""
        spread = {"median": self.spread.median, "min": self.spread.least, "max": self.spread.most}
        goal = str(self.goal) if self.goal else None
        words = {"goal": goal, "verdict": self.verdict or None, "about": self.about}
        return {"name": self.name, "unit": self.unit or "ratio", **spread, **words}


HEADS = ("figure", "median", "min", "max", "unit", "goal", "", "")


def table(figures: Iterable[Figure]) -> str:
    """Figures as aligned text."""
    lines: list[Sequence[str]] = [HEADS]
    for each in figures:
        numbers = [_number(value) for value in (each.spread.median, each.spread.least, each.spread.most)]
        goal = str(each.goal) if each.goal else ""
        lines.append((each.name, *numbers, each.unit or "x", goal, each.verdict, each.about))
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADS))]
    return "\n".join(_line(line, widths) for line in lines)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Align numbers to the right, words to the left."""
    shown = [
        cell.rjust(width) if 1 <= i <= 3 else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(shown).rstrip()


def in_turn(rounds: int, *ways: Callable[[], Value]) -> list[list[Value]]:
    """The value of each candidate in each round, after one round that does not count.

    All candidates have their turn in each round, in an order that is reversed
    every time, so that a machine that slows down slows all of them down.
    """
    for way in ways:
        way()
    results: list[list[Value]] = [[] for _ in ways]
    for number in range(rounds):
        order = range(len(ways)) if number % 2 == 0 else reversed(range(len(ways)))
        for i in order:
            results[i].append(ways[i]())
    return results


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The ratio of each round; both have one value for each round."""
    return Spread.of([a / b for a, b in zip(over, under, strict=True)])
