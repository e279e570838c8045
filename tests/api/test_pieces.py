"""Large requests in pieces: the same message, never much at once, and no more parts than a job may have."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.v1 import jobs_pb2 as pb

from ktaskd.api import pieces
from ktaskd.api.pieces import (
    OTHERS_MAX,
    PART_BYTES_MAX,
    PARTS_MAX,
    PIECE_BYTES,
    check_small,
    parse_spec_request,
)
from ktaskd.model.errors import LimitExceeded
from ktaskd.model.limits import ITEMS_MAX, MESSAGE_BYTES_MAX

TEXT = st.text(max_size=300)
SOURCE = st.one_of(TEXT.map(lambda text: pb.Source(handle=text)), TEXT.map(lambda text: pb.Source(path=text)))
SPEC = st.builds(
    pb.JobSpec,
    function=TEXT,
    items=st.lists(SOURCE, max_size=40),
    ranges=st.lists(
        st.builds(pb.Range, start=st.integers(0, 2**64 - 1), length=st.integers(0, 300)), max_size=5
    ),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    sources=st.dictionaries(TEXT, SOURCE, max_size=3),
    undo=st.booleans(),
)


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def run(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


def parsed(raw: bytes) -> pb.RunRequest:
    found: pb.RunRequest = run(parse_spec_request(pb.RunRequest, raw))
    return found


@pytest.mark.slow
@given(specs=st.lists(SPEC, max_size=2), unknown=st.binary(max_size=20), piece=st.integers(1, 200))
@settings(deadline=None)
def test_request_when_parsed_in_pieces_then_as_if_whole(
    specs: list[pb.JobSpec], unknown: bytes, piece: int
) -> None:
    raw = b"".join(field(1, one.SerializeToString()) for one in specs) + field(77, unknown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece)
        patch.setattr(pieces, "PART_BYTES_MAX", 10**6)
        assert parsed(raw) == pb.RunRequest.FromString(raw)


@given(raw=st.binary(max_size=300))
@settings(deadline=None)
def test_garbage_when_parsed_in_pieces_then_an_error_or_what_protobuf_makes_of_it(raw: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", 1)
        patch.setattr(pieces, "PART_BYTES_MAX", 10**6)
        for one in (raw, field(1, raw)):
            try:
                found = parsed(one)
            except (DecodeError, LimitExceeded):
                continue
            assert found == pb.RunRequest.FromString(one)


def test_request_when_as_large_as_may_be_then_others_have_the_loop_in_between() -> None:
    items = [pb.Source(handle=f"{i:032x}") for i in range(ITEMS_MAX)]
    request = pb.SubmitRequest(spec=pb.JobSpec(function="f", items=items, request_id="x"))

    async def test() -> None:
        parsing = asyncio.ensure_future(parse_spec_request(pb.SubmitRequest, request.SerializeToString()))
        others = 0
        while not parsing.done():
            others += 1
            await asyncio.sleep(0)
        assert parsing.result() == request
        assert others > request.ByteSize() // (2 * PIECE_BYTES)

    run(test())


EMPTY_ITEMS = b"\x22\x00" * (MESSAGE_BYTES_MAX // 2)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (EMPTY_ITEMS, "spec.items: got .* items or more, wanted at most 100000"),
        (b"\x2a\x00" * (MESSAGE_BYTES_MAX // 2), "spec: got .* fields besides its items or more"),
        (b"\x4a\x00" * (4 * OTHERS_MAX), "spec: got .* fields besides its items or more"),
        (
            field(2, field(1, field(2, field(6, b"\x0a\x00" * 10**6)))),
            "spec.arg: got 2000016 bytes or more, wanted at most 16384",
        ),
        (field(4, b"\x0a\x00" * 10**6), "spec.items: got 2000004 bytes or more, wanted at most 1310720"),
        (field(99, bytes(2 * 10**6)), "spec: field 99: got"),
    ],
)
def test_spec_when_it_has_too_many_parts_then_refused_before_they_are_made(spec: bytes, wanted: str) -> None:
    with pytest.raises(LimitExceeded, match=wanted):
        parsed(field(1, spec))


def test_request_when_it_has_too_many_fields_then_refused() -> None:
    with pytest.raises(LimitExceeded, match="request: got 65 fields or more, wanted at most 64"):
        parsed(b"\x0a\x00" * PIECE_BYTES)
    with pytest.raises(LimitExceeded, match="field 99: got"):
        parsed(field(99, bytes(PART_BYTES_MAX)))


def test_items_when_a_few_too_many_then_they_are_counted() -> None:
    """The later check refuses them with their exact number."""
    raw = field(1, b"\x22\x00" * PARTS_MAX)
    assert len(parsed(raw).spec.items) == PARTS_MAX


def test_request_without_a_spec_when_large_then_refused_unless_of_few_texts() -> None:
    check_small(b"\x0a\x00" * (PIECE_BYTES // 2))
    check_small(field(1, bytes(1 << 20)))
    with pytest.raises(LimitExceeded, match="request: got 65 fields or more, wanted at most 64"):
        check_small(b"\x0a\x00" * PIECE_BYTES)
    with pytest.raises(LimitExceeded, match="request: got 1310721 bytes or more, wanted at most 1310720"):
        check_small(bytes(PART_BYTES_MAX + 1))
