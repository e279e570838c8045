"""Turns JSON objects into google.protobuf.Struct, through its encoding.

Struct.update takes 1.5 microseconds per value in Python. Making the bytes takes half of
that, and protobuf reads them at the speed of C. Source of the
encoding: google/protobuf/struct.proto, protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from google.protobuf import struct_pb2

_EXACT_MAX = 2**53
"""A double holds all integers up to this one."""

_DOUBLE = struct.Struct("<d").pack
_NULL, _FALSE, _TRUE = b"\x08\x00", b"\x20\x00", b"\x20\x01"


def struct_out(value: Mapping[str, Any] | None) -> struct_pb2.Struct | None:
    """Turn a JSON object into a Struct; integers that a double cannot hold become strings."""
    return None if value is None else struct_pb2.Struct.FromString(struct_bytes(value))


@lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    """Encode an entry's name and the tag of its value. Cached, since results repeat few names."""
    text = name.encode(errors="replace")
    return b"\x0a" + _length(len(text)) + text + b"\x12"


def struct_bytes(value: Mapping[str, Any]) -> bytes:
    """Encode a JSON object as a Struct: a map of names to Values, field 1."""
    found: list[bytes] = []
    for name, one in value.items():
        encoded = _value(one)
        size = len(encoded)
        entry = _key(name) + (_LENGTHS[size] if size < 128 else _length(size)) + encoded
        size = len(entry)
        found.append(b"\x0a" + (_LENGTHS[size] if size < 128 else _length(size)) + entry)
    return b"".join(found)


def _value(value: Any) -> bytes:
    """Encode a Value: null 1, number 2, string 3, bool 4, struct 5 or list 6."""
    if isinstance(value, str):
        text = value.encode(errors="replace")
        return b"\x1a" + _length(len(text)) + text
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, float):
        return b"\x11" + _DOUBLE(value)
    if isinstance(value, int):
        return b"\x11" + _DOUBLE(value) if -_EXACT_MAX <= value <= _EXACT_MAX else _value(str(value))
    if value is None:
        return _NULL
    tag, encoded = (b"\x2a", struct_bytes(value)) if isinstance(value, dict) else (b"\x32", _values(value))
    return tag + _length(len(encoded)) + encoded


def _values(values: list[Any]) -> bytes:
    """Encode a ListValue: Values, field 1."""
    found: list[bytes] = []
    for value in values:
        encoded = _value(value)
        found.append(b"\x0a" + _length(len(encoded)) + encoded)
    return b"".join(found)


_LENGTHS = [bytes([size]) for size in range(128)]


def _length(size: int) -> bytes:
    """Encode a length as a varint."""
    if size < 128:
        return _LENGTHS[size]
    found = bytearray()
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    found.append(size)
    return bytes(found)
