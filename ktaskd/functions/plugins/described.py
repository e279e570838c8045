"""Declarations of plug-ins as JSON, for another process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_ACCESS: Mapping[str, Access] = {"r": Access.READ, "w": Access.WRITE, "rw": Access.READ_WRITE}
_LETTERS = {access: letters for letters, access in _ACCESS.items()}

_PLAIN: Mapping[str, type] = {
    **dict.fromkeys(("name", "summary", "unit", "undo_summary", "boundary", "record", "plugin"), str),
    **dict.fromkeys(("bytes_per_position", "align", "min_chunk", "probe", "quantum"), int),
    **dict.fromkeys(("allocates", "writes_bytes", "undo", "reports", "combine", "grows"), bool),
    **dict.fromkeys(("items", "whole_files", "lifecycle", "long_finish", "ranges_only", "steady"), bool),
}
"""The fields that a plug-in may have and that JSON has a type for, with that type."""


class DescriptionInvalid(ValueError):
    """A description of a function is invalid; the text names the key and what is wrong with it."""


def to_json(declaration: Declaration) -> dict[str, Any]:
    """Everything that the daemon and a worker need to know about a function."""
    return {
        **{name: getattr(declaration, name) for name in _PLAIN},
        "partial": declaration.partial.value,
        "sources": [
            {
                "role": source.role,
                "access": _LETTERS[source.access],
                "summary": source.summary,
                "memory_only": source.memory_only,
                "one_writer": source.one_writer,
            }
            for source in declaration.sources
        ],
        "arguments": [
            {
                **{field.name: getattr(argument, field.name) for field in fields(Argument)},
                "type": argument.type.value,
            }
            for argument in declaration.arguments
        ],
    }


def from_json(raw: Mapping[str, Any]) -> Declaration:
    """The inverse of `to_json`; raises DescriptionInvalid."""
    defaults = {field.name: field.default for field in fields(Declaration)}
    plain = {name: _typed(raw, name, kind, defaults[name]) for name, kind in _PLAIN.items()}
    try:
        declaration = Declaration(
            **plain,
            partial=Partial(raw.get("partial", "none")),
            sources=tuple(_source(source) for source in raw.get("sources", ())),
            arguments=tuple(_argument(argument) for argument in raw.get("arguments", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DescriptionInvalid(f"function {raw.get('name')!r}: {type(error).__name__}: {error}") from error
    _check(declaration)
    return declaration


def _typed(raw: Mapping[str, Any], name: str, kind: type, default: object) -> Any:
    value = raw.get(name, default)
    if value is MISSING or type(value) is not kind:
        got = "is missing" if value is MISSING else f"got {value!r}"
        raise DescriptionInvalid(f"{name}: {got}, wanted {kind.__name__}")
    return value


def _source(raw: Mapping[str, Any]) -> SourceRole:
    return SourceRole(
        str(raw["role"]),
        _ACCESS[raw["access"]],
        str(raw["summary"]),
        bool(raw["memory_only"]),
        bool(raw["one_writer"]),
    )


def _argument(raw: Mapping[str, Any]) -> Argument:
    return Argument(
        str(raw["name"]),
        ArgType(raw["type"]),
        raw["default"],
        str(raw["summary"]),
        raw.get("minimum"),
        raw.get("maximum"),
        tuple(str(choice) for choice in raw.get("choices", ())),
    )


def _check(declaration: Declaration) -> None:
    """Check what the planner relies on; raises DescriptionInvalid."""
    for key in ("align", "min_chunk", "probe"):
        if getattr(declaration, key) < 1:
            raise DescriptionInvalid(f"{key}: got {getattr(declaration, key)}, wanted at least 1")
    if declaration.min_chunk % declaration.align:
        raise DescriptionInvalid(
            f"min_chunk: got {declaration.min_chunk}, wanted a multiple of align, {declaration.align}"
        )
    if declaration.undo and not declaration.undo_summary:
        raise DescriptionInvalid("undo_summary: is empty; describe what the undo puts back")
    if declaration.partial is Partial.UNDO_TOLERATES and not declaration.undo:
        raise DescriptionInvalid('partial: "undo_tolerates" needs an undo; declare one')
    if len({source.role for source in declaration.sources}) != len(declaration.sources):
        raise DescriptionInvalid("sources: two sources have the same role")
