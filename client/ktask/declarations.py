"""Declarations of a daemon's functions, as frozen dataclasses; no protobuf in them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceRole:
    """One source of a function; access is READ, WRITE or READ_WRITE."""

    role: str
    access: str
    summary: str


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument; type is "int", "float", "bool" or "string".

    A `default` of None means that the argument must be given. `minimum` and `maximum` are the
    bounds of a number, None if it has none. An integer above 2^53 is a str, also in `default`.
    `choices` are the allowed values of a string; empty allows any.
    """

    name: str
    type: str
    default: int | float | bool | str | None
    summary: str
    minimum: int | float | str | None = None
    maximum: int | float | str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A thread function; the contract explains every field.

    `partial` is RERUN_SAFE, UNDO_TOLERATES or NONE. `unavailable` is the reason why the
    daemon cannot run it, "" if it can.
    """

    name: str
    summary: str
    sources: tuple[SourceRole, ...]
    unit: str
    align: int
    min_chunk: int
    arguments: tuple[Argument, ...]
    allocates: bool
    partial: str
    undo: bool
    undo_summary: str
    combine: bool
    boundary: str
    items: bool
    unavailable: str
    record: str = ""
    whole_files: bool = False
