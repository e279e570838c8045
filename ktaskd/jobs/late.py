"""Attributes that are made when they are first used, so that what waits takes little memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

Value = TypeVar("Value")


class _Late:
    """Makes the attribute at the first look; from then on the object's own attribute hides this one."""

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
    """Declare, in the body of a class, an attribute that each object makes when it is first looked at.

    Write `name: Type = late(Type)`. The attribute can be set like any other one.
    """
    return cast(Value, _Late(make))
