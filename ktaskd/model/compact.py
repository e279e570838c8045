"""Small mappings that many objects hold: a dict of one entry takes 232 bytes, this 112."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar, cast

Value = TypeVar("Value")


class Compact(Mapping[str, Value]):
    """A mapping that does not change, for a few entries: each look goes through all of them."""

    __slots__ = ("_names", "_values")

    def __init__(self, entries: Mapping[str, Value]) -> None:
        """Hold the same entries in the same order."""
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
        """As the dict would be shown."""
        return repr(dict(self))


_EMPTY: Mapping[str, object] = MappingProxyType({})


def compact(entries: Mapping[str, Value]) -> Mapping[str, Value]:
    """The same entries in little memory, not to be changed by anybody."""
    return Compact(entries) if entries else cast(Mapping[str, Value], _EMPTY)
