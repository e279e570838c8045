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
"""Bytes of memory that one result takes in addition to its text."""


class Parts:
    """Results of chunks by the start of the chunk, as the JSON text that workers sent.

    A million small results would take ten times as much memory as Python objects.
    """

    is_combined = False
    """Whether there is one, which is the combined result."""

    def __init__(self) -> None:
        """Start without results."""
        self._starts = array("q")
        self._texts: list[bytes] = []

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self._texts)

    def add(self, start: int, text: bytes) -> int:
        """Add the result of the chunk that begins at `start`; return the bytes that it takes."""
        place = bisect(self._starts, start)
        self._starts.insert(place, start)
        self._texts.insert(place, text)
        return len(text) + PART_OVERHEAD_BYTES

    def take_all(self) -> deque[bytes]:
        """Remove and return all results, in the order of their chunks."""
        taken = deque(self._texts)
        self.clear()
        return taken

    def clear(self) -> None:
        """Remove all results."""
        del self._starts[:]
        self._texts = []


def take_fitting(parts: deque[bytes]) -> list[Json]:
    """Remove and return as many of the first results as fit into one message: at least two, to get on."""
    batch: list[Json] = []
    size = 0
    while parts:
        size += len(parts[0]) + 2
        if size > 2 * PART_BYTES_MAX and len(batch) >= 2:
            break
        batch.append(json.loads(parts.popleft()))
    return batch
