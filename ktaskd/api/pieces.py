"""Large requests, parsed in pieces of some milliseconds.

protobuf parses a whole message in one go: 4 MiB of two-byte parts hold the loop
for 60 ms and become 150 MiB of objects. Only a job's spec may be large, because
of its items. So the bytes of a large request are walked field by field, which
also counts the items, and the fields are parsed 64 KiB at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError
from ktask.v1 import jobs_pb2 as pb

from ktaskd.jobs.slices import breathe
from ktaskd.model.errors import LimitExceeded
from ktaskd.model.limits import ITEMS_MAX

PIECE_BYTES = 64 * 1024
"""Parsed in one go: 1 ms and 2.5 MiB at most. A request without items is no larger."""

OTHERS_BYTES_MAX = 4 * PIECE_BYTES
"""Everything in a spec but its items: twice what ranges, sources, labels and arguments may have."""

PARTS_MAX = ITEMS_MAX + ITEMS_MAX // 2
"""Items beyond this are refused before they are parsed; a spec with fewer is refused with their number."""

TOP_FIELDS_MAX = 64
"""Fields beside and with the spec; the contract has one."""

_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}
"""Wire types, and payload bytes of those without a length.
Source: protobuf.dev/programming-guides/encoding."""

_ITEM = pb.JobSpec.ITEMS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED

SpecRequest = TypeVar("SpecRequest", pb.RunRequest, pb.SubmitRequest)


def check_small(raw: bytes) -> None:
    """Raise LimitExceeded if a request that carries no spec is larger than one piece."""
    if len(raw) > PIECE_BYTES:
        raise LimitExceeded(
            f"request: got {len(raw)} bytes, limit {PIECE_BYTES}; only Run and Submit may have more",
            field="request",
            limit=str(PIECE_BYTES),
        )


async def parse_spec_request(make: Callable[[], SpecRequest], raw: bytes) -> SpecRequest:
    """Parse a request that carries a spec; the result is that of `FromString`.

    Others get the loop between two pieces of a large request.

    Raises:
        DecodeError: the bytes are no message.
        LimitExceeded: the spec has more parts than any may have.
    """
    request = make()
    if len(raw) <= PIECE_BYTES:
        request.MergeFromString(raw)
        return request
    at = 0
    for _ in range(TOP_FIELDS_MAX):
        if at == len(raw):
            return request
        number, start, end = _field(raw, at)
        if number == request.SPEC_FIELD_NUMBER and raw[at] & 7 == _LENGTH_DELIMITED:
            await _parse_spec(request.spec, raw, start, end)
        else:
            _check_part(f"field {number}", end - at)
            request.MergeFromString(raw[at:end])
        at = end
    raise LimitExceeded(
        f"request: got more than {TOP_FIELDS_MAX} fields, wanted one spec",
        field="request",
        limit=str(TOP_FIELDS_MAX),
    )


async def _parse_spec(spec: pb.JobSpec, raw: bytes, at: int, end: int) -> None:
    spec.SetInParent()
    items = others = 0
    while at < end:
        start = at
        at, more_items, more_others = _walk(raw, at, end)
        items, others = items + more_items, others + more_others
        _check("spec.items", items, PARTS_MAX, ITEMS_MAX, "items")
        _check("spec", others, OTHERS_BYTES_MAX, OTHERS_BYTES_MAX, "bytes beside its items")
        spec.MergeFromString(raw[start:at])
        await breathe()


def _walk(raw: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The end of a piece, and how many items and bytes of other fields are in it."""
    items = others = 0
    stop = min(at + PIECE_BYTES, end - 1)
    while at < stop:
        if raw[at] == _ITEM and raw[at + 1] < 128:
            # The usual item. The general case takes four times as long.
            items += 1
            at += 2 + raw[at + 1]
            continue
        number, _, after = _field(raw, at)
        _check_part(_name(number), after - at)
        if number == pb.JobSpec.ITEMS_FIELD_NUMBER:
            items += 1
        else:
            others += after - at
        at = after
    if at > end or at == end - 1:
        raise DecodeError("a field ends after its message")
    return at, items, others


def _field(raw: bytes, at: int) -> tuple[int, int, int]:
    """The number of a field, and where its payload begins and ends."""
    key, at = _varint(raw, at)
    kind = key & 7
    if kind == 0:
        return key >> 3, at, _varint(raw, at)[1]
    if kind == _LENGTH_DELIMITED:
        size, at = _varint(raw, at)
    elif kind in _FIXED:
        size = _FIXED[kind]
    else:
        raise DecodeError("a group, which the contract does not have")
    if at + size > len(raw):
        raise DecodeError("a field ends after its message")
    return key >> 3, at, at + size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for byte in raw[at : at + 10]:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            return value, at
    raise DecodeError("a number that does not end")


def _name(number: int) -> str:
    found = pb.JobSpec.DESCRIPTOR.fields_by_number.get(number)
    return f"spec.{found.name}" if found else f"spec: field {number}"


def _check_part(name: str, size: int) -> None:
    _check(name, size, PIECE_BYTES, PIECE_BYTES, "bytes")


def _check(name: str, got: int, most: int, limit: int, unit: str) -> None:
    if got > most:
        raise LimitExceeded(f"{name}: got {got} {unit} or more, limit {limit}", field=name, limit=str(limit))
