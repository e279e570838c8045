"""The messages of the handoff socket: decoding reverses encoding, and garbage is refused.

Tests: client/ktask/v1/handoff.py
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.v1 import handoff
from ktask.v1.handoff import Drop, Dropped, Hand, Handles, HandoffInvalid, Refused

numbers = st.integers(1, 2**32 - 1)
handles = st.text("0123456789abcdef", min_size=32, max_size=32)
handle_lists = st.lists(handles, min_size=1, max_size=handoff.FDS_MAX).map(tuple)
flag_lists = st.lists(st.sampled_from((0, handoff.OWN_OFFSET)), min_size=1, max_size=handoff.FDS_MAX).map(
    tuple
)


@settings(deadline=None)
@given(st.one_of(st.builds(Hand, numbers, flag_lists), st.builds(Drop, numbers, handle_lists)))
def test_a_request_survives_the_way(request: handoff.Request) -> None:
    data = handoff.encode_request(request)
    assert len(data) <= handoff.REQUEST_BYTES_MAX
    assert handoff.decode_request(data) == request
    assert handoff.peek_number(data[: handoff.HEAD_BYTES]) == request.number


reasons = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=64)
texts = st.text(st.characters(codec="utf-8"), max_size=200)


@settings(deadline=None)
@given(
    st.one_of(
        st.builds(Handles, numbers, handle_lists),
        st.builds(Dropped, numbers, st.integers(1, handoff.FDS_MAX)),
        st.builds(Refused, st.integers(0, 2**32 - 1), reasons, texts, st.integers(-1, handoff.FDS_MAX - 1)),
    )
)
def test_a_reply_survives_the_way(reply: handoff.Reply) -> None:
    data = handoff.encode_reply(reply)
    assert len(data) <= handoff.REPLY_BYTES_MAX
    assert handoff.decode_reply(data) == reply


def test_long_texts_are_cut_to_the_bound() -> None:
    data = handoff.encode_reply(Refused(1, "R" * 1000, "ä" * 4000))
    assert len(data) <= handoff.REPLY_BYTES_MAX
    decoded = handoff.decode_reply(data)
    assert isinstance(decoded, Refused)
    assert (decoded.reason, decoded.message) == ("R" * 64, "ä" * 512)


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_garbage_is_refused_in_one_way(data: bytes) -> None:
    for decode in (handoff.decode_request, handoff.decode_reply):
        for candidate in (data, handoff.MAGIC + b"\x01" + data):
            with contextlib.suppress(HandoffInvalid):
                decode(candidate)
    assert handoff.peek_number(data) >= 0


@settings(deadline=None)
@given(st.one_of(st.builds(Hand, numbers, flag_lists), st.builds(Drop, numbers, handle_lists)), st.data())
def test_a_request_of_another_length_is_refused(request: handoff.Request, data: st.DataObject) -> None:
    whole = handoff.encode_request(request)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:cut], whole + b"\0"):
        with pytest.raises(HandoffInvalid):
            handoff.decode_request(wrong)


def test_the_layout_is_the_documented_one() -> None:
    assert handoff.encode_request(Hand(0x01020304, (0, 1))).hex(" ") == (
        "4b 54 46 44 01 01 02 00 04 03 02 01 00 01"
    )
    assert handoff.encode_reply(Refused(5, "AB", "xyz", 3)).hex(" ") == (
        "4b 54 46 44 01 43 00 00 05 00 00 00 03 00 02 03 00 41 42 78 79 7a"
    )


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"GET / HTTP/1.1\r\n", "magic"),
        (b"KTFD\x02\x01\x01\x00\x01\x00\x00\x00\x00", "version 2"),
        (b"KTFD\x01\x07\x01\x00\x01\x00\x00\x00\x00", "kind 7"),
        (b"KTFD\x01\x01\x00\x00\x01\x00\x00\x00", "count 0"),
        (b"KTFD\x01\x01\xfe\x00\x01\x00\x00\x00" + bytes(254), "count 254"),
        (b"KTFD\x01\x01\x01\x00\x00\x00\x00\x00\x00", "number 0"),
        (b"KTFD\x01\x01\x01\x00\x01\x00\x00\x00\x02", "unknown bits"),
        (b"KTFD\x01\x02\x01\x00\x01\x00\x00\x00" + b"G" * 32, "hexadecimal"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, says: str) -> None:
    with pytest.raises(HandoffInvalid, match=says):
        handoff.decode_request(data)


@pytest.mark.parametrize(
    "wrong", [Hand(1, ()), Hand(1, (0,) * 254), Hand(1, (2,)), Drop(1, ("x",)), Drop(1, ())]
)
def test_nothing_beyond_the_bounds_is_encoded(wrong: handoff.Request) -> None:
    with pytest.raises(HandoffInvalid):
        handoff.encode_request(wrong)
