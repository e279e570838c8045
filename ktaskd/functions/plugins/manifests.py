"""Manifests: an administrator's declarations of native functions, from TOML, and for workers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ktaskd.model.function import Access, ArgType, Argument, Declaration, Native, Partial, SourceRole
from ktaskd.model.limits import NAME_BYTES_MAX, POSITION_MAX

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACCESS = {"r": Access.READ, "rw": Access.READ_WRITE}

_TYPES: Mapping[str, type] = {
    "name": str,
    "library": str,
    "symbol": str,
    "undo": str,
    "unit": str,
    "align": int,
    "min_chunk": int,
    "partial": str,
    "summary": str,
    "source": list,
}
_REQUIRED = ("name", "library", "symbol", "min_chunk", "source")
_SOURCE_TYPES: Mapping[str, type] = {"role": str, "access": str, "summary": str}
_SOURCE_REQUIRED = ("role", "access")

DATA = Argument("data", ArgType.STRING, "", "Passed to the function as arg, with a NUL at its end.")


class ManifestInvalid(ValueError):
    """A manifest is wrong.

    Args:
        key: path of the wrong key, such as "source[0].access".
    """

    def __init__(self, key: str, words: str) -> None:
        super().__init__(f"{key}: {words}")


def parse_manifest(raw: Mapping[str, Any]) -> Declaration:
    """The declaration from a manifest; raises ManifestInvalid.

    The function is called with pointers `start` and `end` into its one source.
    """
    _check_keys(raw, _TYPES, _REQUIRED, "")
    _check_text("name", raw["name"], _NAME)
    if len(raw["name"]) > NAME_BYTES_MAX:
        raise ManifestInvalid("name", f"got {len(raw['name'])} bytes, wanted at most {NAME_BYTES_MAX}")
    if not raw["library"].startswith("/") or "\0" in raw["library"]:
        raise ManifestInvalid("library", f'got "{raw["library"]}", wanted an absolute path')
    _check_text("symbol", raw["symbol"], _SYMBOL)
    if raw.get("undo"):
        _check_text("undo", raw["undo"], _SYMBOL)
    source = _source(raw["source"])
    partial = _partial(raw)
    align = _number(raw, "align", 1)
    # Interior edges are multiples of both, so a call never gets less than the smallest chunk.
    min_chunk = -(-_number(raw, "min_chunk", 1) // align) * align
    writes = Access.WRITE in source.access
    return Declaration(
        name=raw["name"],
        summary=raw.get("summary") or f"Calls {raw['symbol']} of {raw['library']}.",
        unit=raw.get("unit") or "byte",
        align=align,
        min_chunk=min_chunk,
        probe=min_chunk,
        sources=(source,),
        arguments=(DATA,),
        allocates=writes,
        partial=partial,
        writes_bytes=writes,
        undo=bool(raw.get("undo")),
        undo_summary=f"Calls {raw['undo']}." if raw.get("undo") else "",
        native=Native(raw["library"], raw["symbol"], raw.get("undo", "")),
    )


def note_of(declaration: Declaration) -> dict[str, Any]:
    """The manifest of a native function again, for a worker."""
    native = declaration.native
    assert native is not None, "only a native function has a manifest"
    (source,) = declaration.sources
    return {
        "name": declaration.name,
        "library": native.library,
        "symbol": native.symbol,
        "undo": native.undo,
        "unit": declaration.unit,
        "align": declaration.align,
        "min_chunk": declaration.min_chunk,
        "partial": declaration.partial.value,
        "source": [{"role": source.role, "access": "rw" if Access.WRITE in source.access else "r"}],
    }


def _check_keys(
    raw: Mapping[str, Any], types: Mapping[str, type], required: tuple[str, ...], at: str
) -> None:
    for key, value in raw.items():
        if key not in types:
            raise ManifestInvalid(f"{at}{key}", f"unknown key (known: {', '.join(types)})")
        if type(value) is not types[key]:
            raise ManifestInvalid(f"{at}{key}", f"got {value!r}, wanted {types[key].__name__}")
    for key in required:
        if key not in raw:
            raise ManifestInvalid(f"{at}{key}", "is missing")


def _check_text(key: str, value: str, wanted: re.Pattern[str]) -> None:
    if not wanted.fullmatch(value):
        raise ManifestInvalid(key, f'got "{value}", wanted {wanted.pattern}')


def _number(raw: Mapping[str, Any], key: str, default: int) -> int:
    value: int = raw.get(key, default)
    if not 1 <= value <= POSITION_MAX:
        raise ManifestInvalid(key, f"got {value}, wanted 1 to {POSITION_MAX}")
    return value


def _partial(raw: Mapping[str, Any]) -> Partial:
    value = raw.get("partial", "none")
    names = [partial.value for partial in Partial]
    if value not in names:
        raise ManifestInvalid("partial", f'got "{value}", wanted one of {", ".join(names)}')
    if value == Partial.UNDO_TOLERATES.value and not raw.get("undo"):
        raise ManifestInvalid("partial", f'"{value}" needs an undo; add the key undo')
    return Partial(value)


def _source(tables: list[Any]) -> SourceRole:
    if len(tables) != 1 or not isinstance(tables[0], dict):
        raise ManifestInvalid("source", f"got {len(tables)}, wanted exactly one table")
    raw = tables[0]
    _check_keys(raw, _SOURCE_TYPES, _SOURCE_REQUIRED, "source[0].")
    if not raw["role"].isidentifier():
        raise ManifestInvalid("source[0].role", f'got "{raw["role"]}", wanted a name')
    if raw["access"] not in _ACCESS:
        raise ManifestInvalid("source[0].access", f'got "{raw["access"]}", wanted r or rw')
    summary = raw.get("summary") or "The data that start and end point into."
    return SourceRole(raw["role"], _ACCESS[raw["access"]], summary)
