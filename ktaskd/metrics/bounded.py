"""Bounds the number of different values of a label, which clients must not be able to fill memory with."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

OTHER = "other"

ValueT = TypeVar("ValueT", bound=Hashable)


class Bounded(Generic[ValueT]):
    """Keeps the first `most` values that it sees; any further value counts as another one."""

    def __init__(self, most: int) -> None:
        """Start with no value."""
        self._most = most
        self._known: set[ValueT] = set()

    def __len__(self) -> int:
        """Number of values that are kept."""
        return len(self._known)

    def keep(self, value: ValueT) -> ValueT | None:
        """Return the value; None if it is none of the first `most`."""
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return None
        self._known.add(value)
        return value
