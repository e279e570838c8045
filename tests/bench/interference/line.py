"""One line of the result: figures with their spread and goal, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.measure import Goal, Spread

PASS, MISSED = "PASS", "MISSED"


@dataclass(frozen=True, slots=True)
class Exactly:
    """A count that every round must have."""

    bound: float

    def met(self, value: float) -> bool:
        """Whether it is."""
        return value == self.bound

    def __str__(self) -> str:
        """As in "= 1"."""
        return f"= {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure; one that could not be measured is a line too, and misses.

    Args:
        name: unique within its row.
        values: one for each round; empty if it was not measured.
        unit: of the values; "" for a ratio.
        goal: of their median, or of each of them; None = no goal.
        about: further information.
        why: the reason why it was not measured; "" if it was.
        bound: ">=" if the values are bounds that were reached, not measured.
    """

    name: str
    values: tuple[float, ...] = ()
    unit: str = ""
    goal: Goal | Exactly | None = None
    about: str = ""
    why: str = ""
    bound: str = ""

    @property
    def spread(self) -> Spread | None:
        """The middle and the ends; None if it was not measured."""
        return Spread.of(self.values) if self.values else None

    @property
    def verdict(self) -> str:
        """PASS, MISSED, or "" without a goal."""
        spread = self.spread
        if spread is None:
            return MISSED
        if self.goal is None:
            return ""
        judged = self.values if isinstance(self.goal, Exactly) else (spread.median,)
        return PASS if all(map(self.goal.met, judged)) else MISSED

    def as_json(self) -> dict[str, Any]:
        """The line for programs."""
        spread = self.spread
        middle = {"median": spread.median, "min": spread.least, "max": spread.most} if spread else {}
        words = {"goal": str(self.goal) if self.goal else None, "verdict": self.verdict or None}
        about = {"about": self.about, "why": self.why, "bound": self.bound}
        return {
            "name": self.name,
            "unit": self.unit or "ratio",
            **middle,
            **words,
            **about,
            "values": list(self.values),
        }


def failed(name: str, why: str) -> Line:
    """A line that was not measured, with the reason."""
    return Line(name, why=why or "no reason was given")


HEADS = ("figure", "goal", "measured", "spread", "unit", "", "")


def table(lines: Iterable[Line]) -> str:
    """Lines as aligned text."""
    rows: list[Sequence[str]] = [HEADS, *(_cells(line) for line in lines)]
    # The last cell may be long, and is not filled up.
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS) - 1)]
    return "\n".join(_text(row, widths) for row in rows)


def _cells(line: Line) -> Sequence[str]:
    goal = str(line.goal) if line.goal else ""
    spread = line.spread
    if spread is None:
        return (line.name, goal, "-", "", "", line.verdict, f"not measured: {line.why}")
    ends = f"{number(spread.least)} .. {number(spread.most)}" if len(line.values) > 1 else ""
    shown = f"{line.bound} {number(spread.median)}".strip()
    return (line.name, goal, shown, ends, line.unit or "x", line.verdict, line.about)


def number(value: float) -> str:
    """The value with about three digits."""
    if value and abs(value) < 0.1:
        return f"{value:.4f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def _text(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Align numbers to the right, words to the left."""
    shown = [
        cell.rjust(width) if i in (1, 2, 3) else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=False))
    ]
    return "  ".join([*shown, cells[-1]]).rstrip()
