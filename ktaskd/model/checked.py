"""A job whose request has been checked: what is run, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktaskd.model.function import ArgValue, Declaration
from ktaskd.model.job import RangeSpec


@dataclass(frozen=True, slots=True)
class CheckedJob:
    """A job that can be run.

    Args:
        ranges: never overlapping; those asked for, or the whole.
        whole: no ranges were asked for.
        anywhere: ranges without a node may go to any.
        undo: completed chunks are undone when it ends badly.
        position_bytes: bytes of the first source that one position stands for.
        has_item_results: each position has a result of its own; they are reported in order.
    """

    declaration: Declaration
    arg: Mapping[str, ArgValue]
    ranges: tuple[RangeSpec, ...]
    whole: bool
    anywhere: bool
    undo: bool
    position_bytes: int = 1
    has_item_results: bool = False

    @property
    def span(self) -> tuple[int, int]:
        """First position and position after the last; (0, 0) if there are none."""
        if not self.ranges:
            return 0, 0
        return min(r.start for r in self.ranges), max(r.end for r in self.ranges)
