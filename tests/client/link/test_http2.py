"""Frames and header fields: what a server may send is read, and nothing else is taken for an answer."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.link import http2
from ktask.link.http2 import DATA, HEADERS, SETTINGS, Frame, Frames, Unexpected

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=30)
VALUES = st.binary(max_size=300)
FRAMES = st.builds(
    Frame, st.integers(0, 9), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=100)
)


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Source: RFC 7541, section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    found, value = bytearray((first | most,)), value - most
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    return bytes((*found, value))


def literal(name: str, value: bytes, first: int) -> bytes:
    return bytes((first,)) + integer(len(name), 7) + name.encode() + integer(len(value), 7) + value


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(1, 60), min_size=1))
def test_frames_when_cut_anywhere_then_the_same(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(http2.encode_frame(*frame) for frame in frames)
    reader, at, i = Frames(), 0, 0
    found: list[Frame] = []
    while at < len(data):
        found += reader.add(data[at : at + cuts[i % len(cuts)]])
        at, i = at + cuts[i % len(cuts)], i + 1
    assert found == frames


def test_frames_when_one_is_longer_than_agreed_then_unexpected() -> None:
    with pytest.raises(Unexpected, match="16385 bytes"):
        list(Frames().add(http2.encode_frame(DATA, 0, 1, bytes(16385))))


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.sampled_from([0x00, 0x10, 0x40]))
def test_fields_when_literal_then_read(fields: dict[str, bytes], first: int) -> None:
    block = b"\x88\x20" + b"".join(literal(name, value, first) for name, value in fields.items())
    assert http2.fields_of(Frame(HEADERS, 4, 1, block)) == {":status": b"200", **fields}


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\xbe", "number 62"),
        (b"\x00\x81a\x01b", "Huffman"),
        (b"\x00\x05ab", "in the middle"),
        (b"\x00\x01", "in the middle"),
        (b"\xff\xff\xff\xff\xff\xff\xff", "does not end"),
    ],
)
def test_fields_when_not_as_agreed_then_unexpected(block: bytes, why: str) -> None:
    with pytest.raises(Unexpected, match=why):
        http2.fields_of(Frame(HEADERS, 4, 1, block))


def test_fields_when_in_several_frames_then_unexpected() -> None:
    with pytest.raises(Unexpected, match="several"):
        http2.fields_of(Frame(HEADERS, 0, 1, b""))


@given(st.binary(max_size=200), st.integers(0, 255))
def test_fields_when_any_bytes_then_read_or_unexpected(block: bytes, flags: int) -> None:
    with contextlib.suppress(Unexpected):
        http2.fields_of(Frame(HEADERS, flags, 1, block))


def test_content_when_padded_and_with_priority_then_without_both() -> None:
    assert http2.content_of(Frame(DATA, 8, 1, b"\x03abc\0\0\0")) == b"abc"
    assert http2.content_of(Frame(HEADERS, 0x28, 1, b"\x0212345abc\0\0")) == b"abc"
    with pytest.raises(Unexpected, match="padding"):
        http2.content_of(Frame(DATA, 8, 1, b"\x09abc"))


@given(st.binary(max_size=50))
def test_message_when_alone_then_found_and_otherwise_unexpected(message: bytes) -> None:
    whole = b"\0" + len(message).to_bytes(4, "big") + message
    assert http2.message_in([whole[:3], whole[3:]]) == message
    for wrong in (whole + b"x", whole[:-1], b"\1" + whole[1:]):
        with pytest.raises(Unexpected):
            http2.message_in([wrong])


@pytest.mark.parametrize("value", [b"\0\x08\x01raw", b"CAFyYXc", b"CAFyYXc="])
def test_binary_when_raw_or_in_base64_then_the_bytes(value: bytes) -> None:
    assert http2.binary(value) == b"\x08\x01raw"


@given(st.floats(1e-6, 1e9))
def test_timeout_when_sent_then_not_shorter_and_hardly_longer(seconds: float) -> None:
    text = http2._timeout(seconds)
    value = int(text[:-1]) * {b"u": 1e-6, b"m": 1e-3, b"S": 1.0}[text[-1:]]
    assert len(text) <= 9
    assert value >= min(seconds, 10**8 - 1) * (1 - 1e-9)
    assert value <= seconds * 1.01 + 2e-6


def test_window_when_in_the_settings_then_that_number() -> None:
    settings = http2._setting(3, 100) + http2._setting(4, 5000)
    assert http2.window_in(settings) == 5000
    assert http2.window_in(settings[:6]) is None


def test_opening_when_cut_into_frames_then_settings_and_a_window() -> None:
    frames = list(Frames().add(http2.OPENING[24:]))
    assert [frame.kind for frame in frames] == [SETTINGS, http2.WINDOW_UPDATE]
    assert http2.window_in(frames[0].payload) == 65535 + http2.number_in(frames[1].payload)
