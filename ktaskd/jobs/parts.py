"""The results of a job's chunks, in order, until they are combined into one."""

from __future__ import annotations

import json
from array import array
from bisect import bisect
from collections import deque
from typing import Any

from ktaskd.model.limits import PART_BYTES_MAX

Json = dict[str, Any]

PART_OVERHEAD_BYTES = 64
"""Memory that one result takes in addition to its text."""


class Parts:
    """Chunk results by where their chunks begin, as the JSON text that workers sent.

    Python's objects of a million small results would take ten times the memory.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._starts = array("q")
        self._texts: list[bytes] = []

    def __len__(self) -> int:
        """Results held."""
        return len(self._texts)

    def add(self, start: int, text: bytes) -> int:
        """Hold the result of a chunk that begins at `start`; the bytes that it takes."""
        place = bisect(self._starts, start)
        self._starts.insert(place, start)
        self._texts.insert(place, text)
        return len(text) + PART_OVERHEAD_BYTES

    def take_all(self) -> deque[bytes]:
        """The results in order of their chunks; none is held any more."""
        taken = deque(self._texts)
        self.clear()
        return taken

    def clear(self) -> None:
        """Hold none any more."""
        del self._starts[:]
        self._texts = []


def take_fitting(parts: deque[bytes]) -> list[Json]:
    """Take as many off the front as one message holds: at least two, or a round would not end."""
    batch: list[Json] = []
    size = 0
    while parts:
        size += len(parts[0]) + 2
        if size > 2 * PART_BYTES_MAX and len(batch) >= 2:
            break
        batch.append(json.loads(parts.popleft()))
    return batch
