"""Attributes that are made at their first use, so that waiting jobs take little memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

Value = TypeVar("Value")


class _Late:
    """Makes the attribute at its first use; from then on the object's own attribute hides this descriptor."""

    __slots__ = ("_make", "_name")

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, thing: object | None, _: type) -> object:
        if thing is None:
            return self
        value = self._make()
        setattr(thing, self._name, value)
        return value


def late(make: Callable[[], Value]) -> Value:
    """Declare, in the body of a class, an attribute that each object makes at its first use.

    Write `name: Type = late(Type)`. The attribute can be set like any other one.
    """
    return cast(Value, _Late(make))
