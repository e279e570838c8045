"""Parses large requests in pieces that take about a millisecond each.

protobuf parses a whole message in one go: 4 MiB of two-byte parts hold the loop
for 60 ms and become 150 MiB of objects. Only a job's spec may be large, because
of its items. So this module walks the bytes of a large request field by field, which
also counts the items, and parses the fields 64 KiB at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError
from ktask.v1 import jobs_pb2 as pb

from ktaskd.jobs.slices import breathe
from ktaskd.model.errors import LimitExceeded
from ktaskd.model.limits import ARG_BYTES_MAX, ITEMS_MAX

PIECE_BYTES = 64 * 1024
"""Bytes parsed in one go, which takes at most 1 ms and 2.5 MiB."""

PART_BYTES_MAX = 20 * PIECE_BYTES
"""Limit of one field, and of a whole request without a spec. 1 MiB of text takes at most 4 ms. A text that
is too long is refused later, by its name."""

OTHERS_MAX = 16 * 1024
"""Most fields of a spec that are no items: four times the limit of ranges, sources, labels and arguments."""

PARTS_MAX = ITEMS_MAX + ITEMS_MAX // 2
"""More items are refused before they are parsed. With fewer, the refusal names their exact number."""

TOP_FIELDS_MAX = 64
"""Most fields of a request, including the spec; the contract has one."""

_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}
"""Wire types, and payload bytes of those without a length.
Source: protobuf.dev/programming-guides/encoding."""

_ITEM = pb.JobSpec.ITEMS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED

SpecRequest = TypeVar("SpecRequest", pb.RunRequest, pb.SubmitRequest)


def check_small(raw: bytes) -> None:
    """Raise LimitExceeded if a request that carries no spec is large, or has many fields."""
    _check("request", len(raw), PART_BYTES_MAX, PART_BYTES_MAX, "bytes")
    if len(raw) <= PIECE_BYTES:
        return
    at = 0
    for _ in range(TOP_FIELDS_MAX):
        if at == len(raw):
            return
        at = _field(raw, at)[2]
    _check("request", TOP_FIELDS_MAX + 1, TOP_FIELDS_MAX, TOP_FIELDS_MAX, "fields")


async def parse_spec_request(make: Callable[[], SpecRequest], raw: bytes) -> SpecRequest:
    """Parse a request that carries a spec; the result is the same as that of `FromString`.

    Other callers are served between two pieces of a large request.

    Raises:
        DecodeError: the bytes are no message.
        LimitExceeded: the spec has more parts than allowed.
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
            _check(f"field {number}", end - at, PART_BYTES_MAX, PART_BYTES_MAX, "bytes")
            request.MergeFromString(raw[at:end])
        at = end
    _check("request", TOP_FIELDS_MAX + 1, TOP_FIELDS_MAX, TOP_FIELDS_MAX, "fields")
    return request


async def _parse_spec(spec: pb.JobSpec, raw: bytes, at: int, end: int) -> None:
    spec.SetInParent()
    items = others = arg_bytes = 0
    while at < end:
        start = at
        at, counts = _walk(raw, at, end)
        items, others, arg_bytes = items + counts[0], others + counts[1], arg_bytes + counts[2]
        _check("spec.items", items, PARTS_MAX, ITEMS_MAX, "items")
        _check("spec", others, OTHERS_MAX, OTHERS_MAX, "fields besides its items")
        # Only the arguments may be nested. Their real limit is smaller.
        _check("spec.arg", arg_bytes, PIECE_BYTES, ARG_BYTES_MAX, "bytes")
        spec.MergeFromString(raw[start:at])
        await breathe()


def _walk(raw: bytes, at: int, end: int) -> tuple[int, tuple[int, int, int]]:
    """Return the end of a piece, and its numbers of items, other fields, and bytes of arguments."""
    items = others = arg_bytes = 0
    stop = min(at + PIECE_BYTES, end - 1)
    while at < stop:
        if raw[at] == _ITEM and raw[at + 1] < 128:
            # The common form of an item. The general case takes four times as long.
            items += 1
            at += 2 + raw[at + 1]
            continue
        number, _, after = _field(raw, at)
        if number == pb.JobSpec.ARG_FIELD_NUMBER:
            arg_bytes += after - at
        else:
            _check(_name(number), after - at, PART_BYTES_MAX, PART_BYTES_MAX, "bytes")
        items, others = (items + 1, others) if number == _ITEM >> 3 else (items, others + 1)
        at = after
    if at > end or at == end - 1:
        raise DecodeError("a field ends after its message")
    return at, (items, others, arg_bytes)


def _field(raw: bytes, at: int) -> tuple[int, int, int]:
    """Return the number of a field, and where its payload begins and ends."""
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


def _check(name: str, got: int, most: int, limit: int, unit: str) -> None:
    if got > most:
        text = f"{name}: got {got} {unit} or more, wanted at most {limit}"
        raise LimitExceeded(text, field=name, limit=str(limit))
