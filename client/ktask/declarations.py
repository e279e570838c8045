"""What a daemon declares of its functions, as frozen dataclasses; no protobuf in them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceRole:
    """One source that a function wants; access is READ, WRITE or READ_WRITE."""

    role: str
    access: str
    summary: str


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument; type is "int", "float", "bool" or "string".

    `default` None means that it must be given; `minimum` and `maximum` are bounds of a
    number, None where there is none (an integer above 2^53 is a str, as in `default`);
    `choices` are the only values of a string, empty for any.
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

    `partial` is RERUN_SAFE, UNDO_TOLERATES or NONE; `unavailable` is why it
    cannot be run here, "" if it can.
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
