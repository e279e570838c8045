"""The findings of `ktaskd --check-host`, and its verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

GIVES_WAY_BELOW = 0.05
"""Share of one CPU that a helper may keep next to one rival. A nice-19 autogroup keeps
0.015 (weights 15 and 1024), cpu.idle less; a helper that does not give way keeps 0.5."""


@dataclass(slots=True)
class Findings:
    """The measurements, as pairs of a name and words, and whether helpers give way."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    gives_way_by: str = ""
    advice: list[str] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        """Add a line."""
        self.lines.append((name, text))

    def advise(self, texts: Iterable[str]) -> None:
        """Add texts that name what is missing and how to get it, each once."""
        self.advice += [text for text in dict.fromkeys(texts) if text not in self.advice]

    @property
    def good(self) -> bool:
        """Whether the helper gave way each time, and would give way to rivals that could not be measured."""
        return bool(self.gives_way_by and self.shares) and max(self.shares) < GIVES_WAY_BELOW

    def format(self) -> str:
        """Format all findings for people."""
        lines = [f"{name:<24}{text}" for name, text in self.lines]
        lines += [f"{'to change':<24}{text}" for text in self.advice]
        verdict = (
            f"helpers give way here, by {self.gives_way_by}" if self.good else "helpers do not give way here"
        )
        return "\n".join([*lines, f"{'verdict':<24}{verdict}"])
