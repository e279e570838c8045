"""Frames are found without decompressing them, whatever a stream holds."""

from __future__ import annotations

import os
import tempfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from ktask.cli import frame_reader
from ktask.cli.frame_reader import CONTENT_MAX, FrameReader
from ktask.cli.zstd_frames import Frame, NoFrame, frame_at

CONTENTS = st.one_of(
    st.binary(max_size=3000),
    st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 200_000)).map(lambda pair: pair[0] * pair[1]),
)
FLAGS = st.tuples(st.booleans(), st.booleans())


def packed(content: bytes, has_size: bool, has_checksum: bool) -> bytes:
    packer = zstandard.ZstdCompressor(write_content_size=has_size, write_checksum=has_checksum)
    return packer.compress(content)


def skippable(content: bytes, kind: int) -> bytes:
    return bytes([0x50 | kind]) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


@given(st.lists(st.tuples(CONTENTS, FLAGS), max_size=4), st.data())
def test_frames_when_one_follows_the_other_then_each_end_is_found(
    given_frames: list[tuple[bytes, tuple[bool, bool]]], data: st.DataObject
) -> None:
    frames = [
        (packed(content, *flags), len(content) if flags[0] else None) for content, flags in given_frames
    ]
    whole, at = b"".join(frame for frame, _ in frames), 0
    for frame, size in frames:
        found = frame_at(whole, at)
        assert found is not None
        assert found.length == len(frame)
        assert found.content == size
        end = at + data.draw(st.integers(0, len(frame) - 1))
        assert frame_at(whole[:end], at) is None
        at += len(frame)


@given(st.binary(max_size=50), st.integers(0, 15))
def test_skippable_frame_when_found_then_passed_over(content: bytes, kind: int) -> None:
    frame = skippable(content, kind)
    assert frame_at(frame + b"x", 0) == Frame(len(frame), 0, is_skippable=True)
    assert frame_at(frame[:-1], 0) is None


@given(st.binary(max_size=200), st.booleans())
def test_bytes_when_hostile_then_a_frame_or_none_or_an_error(data: bytes, has_magic: bool) -> None:
    whole = b"\x28\xb5\x2f\xfd" + data if has_magic else data
    try:
        found = frame_at(whole, 0)
    except NoFrame:
        return
    assert found is None or 0 < found.length <= len(whole)


def groups(stream: bytes) -> tuple[list[bytes], bytes]:
    """The groups that a stream is cut into, and the rest with what was not read."""
    found = []
    with tempfile.TemporaryFile() as source:
        source.write(stream)
        source.seek(0)
        reader = FrameReader(source.fileno())
        for group in reader:
            with group:
                group.seek(0)
                found.append(group.read())
        return found, bytes(reader.rest) + os.read(source.fileno(), len(stream))


def test_stream_when_all_frames_state_their_size_then_nothing_is_left() -> None:
    frames = [packed(bytes([i]) * 5000, True, True) for i in range(100)]
    found, rest = groups(b"".join([*frames, skippable(b"table", 14)]))
    assert (b"".join(found), rest) == (b"".join(frames), b"")


@pytest.mark.parametrize("strange", [packed(b"x" * 500, False, False), b"garbage", b"\x1f\x8b\x08\x00"])
def test_stream_when_a_frame_is_of_no_group_then_the_rest_begins_there(strange: bytes) -> None:
    first, last = packed(b"a" * 500, True, False), packed(b"b" * 500, True, False)
    assert groups(first + strange + last) == ([first], strange + last)


def test_stream_when_frames_grow_a_thousandfold_then_no_group_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_reader, "CONTENT_MAX", 1 << 20)
    frame = packed(bytes(300_000), True, False)
    found, rest = groups(frame * 50)
    assert b"".join(found) == frame * 50
    assert max(map(len, found)) == 3 * len(frame)
    large = packed(bytes(2 << 20), True, False)
    assert groups(frame + large + frame) == ([frame], large + frame)
    assert CONTENT_MAX > 1 << 20
    assert rest == b""
