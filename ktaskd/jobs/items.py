"""The results of a job that counts items, brought into the order of the items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ktaskd.model.job import RangeSpec

Json = dict[str, Any]


class ItemResults:
    """Takes results in any order, tells them in order."""

    def __init__(self, ranges: Sequence[RangeSpec]) -> None:
        """`ranges` are the items that there will be results of."""
        ordered = sorted(ranges, key=lambda piece: piece.start)
        self._order = (index for piece in ordered for index in range(piece.start, piece.end))
        self._next = next(self._order, None)
        self._ahead: dict[int, Json] = {}
        self.told: list[tuple[int, int, Json]] = []
        """In order of items: (version when it became known, index, result)."""

    def add(self, start: int, results: Iterable[Json], version: int) -> None:
        """Note the results of the items from `start` on, known with this version."""
        self._ahead.update(enumerate(results, start))
        while self._next in self._ahead:
            self.told.append((version, self._next, self._ahead.pop(self._next)))
            self._next = next(self._order, None)
