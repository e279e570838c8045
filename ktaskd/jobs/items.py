"""The results of a job's items, put into the order of the items."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ktaskd.model.job import RangeSpec
from ktaskd.model.limits import RESULT_BYTES_MAX, RESULT_VALUES_MAX

Json = dict[str, Any]

ITEM_BYTES = 64
"""Bytes of memory that one result takes in addition to its text: its version, its index, its object."""


_AT_ONCE = 256
"""Results that are parsed together, which takes a third of the time."""

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class ItemResults:
    """Takes results in any order, and gives them out in order.

    Results are held as JSON text: as Python objects they would take ten times as much
    memory, of unknown size. Each result that is in order has a version of its own, so that
    a reader can continue after any of them.
    """

    def __init__(self, ranges: Sequence[RangeSpec]) -> None:
        """Expect the results of the items in `ranges`."""
        ordered = sorted(ranges, key=lambda piece: piece.start)
        self._order = (index for piece in ordered for index in range(piece.start, piece.end))
        self._next = next(self._order, None)
        self._ahead: dict[int, bytes] = {}
        self._versions = array("Q")
        self._indices = array("Q")
        self._texts: list[bytes] = []
        self._text_bytes = self._values = 0
        self.dropped = 0
        """Number of results that were in order and are not held any more."""

    def __len__(self) -> int:
        """Return the number of results in order: all items before them have theirs."""
        return len(self._texts)

    def __iter__(self) -> Iterator[tuple[int, int, Json]]:
        """Iterate over (version, index, result), in the order of the items."""
        for first in range(0, len(self._texts), _AT_ONCE):
            texts = self._texts[first : first + _AT_ONCE]
            for i, result in enumerate(json.loads(b"[" + b",".join(texts) + b"]"), first):
                yield self._versions[i], self._indices[i], result

    def add(self, start: int, texts: Iterable[bytes], version: int) -> int:
        """Add the results of the items from `start` on.

        Args:
            texts: each result as JSON.
            version: the last one that was assigned.
        Returns:
            The last version that is assigned now: one more for each result that is now in order.
        """
        self._ahead.update(enumerate(texts, start))
        while self._next in self._ahead:
            version += 1
            self._append(version, self._next, self._ahead.pop(self._next))
            self._next = next(self._order, None)
        return version

    def _append(self, version: int, index: int, text: bytes) -> None:
        self._versions.append(version)
        self._indices.append(index)
        self._texts.append(text)
        self._text_bytes += len(text)
        self._values += 1 + text.count(b",")

    def place_after(self, version: int) -> int:
        """Return the index of the first result that is newer than a version."""
        return bisect_right(self._versions, version)

    def version_at(self, place: int) -> int:
        """Return the version of the result at an index."""
        return self._versions[place]

    def batch(self, place: int, bytes_max: int, count_max: int) -> list[tuple[int, Json]]:
        """Return (item, result) pairs from an index on: as one message holds, at least one."""
        found: list[tuple[int, Json]] = []
        size = 0
        for i in range(place, min(place + count_max, len(self._texts))):
            size += len(self._texts[i])
            if size > bytes_max and found:
                break
            found.append((self._indices[i], json.loads(self._texts[i])))
        return found

    @property
    def fits(self) -> bool:
        """Whether all results together fit into one message next to a job."""
        return self._text_bytes <= RESULT_BYTES_MAX and self._values <= RESULT_VALUES_MAX

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the results in order take."""
        return self._text_bytes + ITEM_BYTES * len(self._texts)

    def drop(self) -> None:
        """Free the memory: no client can ask for the job any more."""
        self.dropped = self.dropped or len(self._texts)
        self._ahead.clear()
        self._texts.clear()
        del self._versions[:], self._indices[:]
        self._text_bytes = self._values = 0


def encode(result: Json) -> bytes:
    """Return a result as the JSON text that is held."""
    return _encoder.encode(result).encode("utf-8", "surrogatepass")
