"""A stream of zstd is cut into groups of frames of bounded size."""

from __future__ import annotations

import os
import tempfile

import pytest
from ktask.cli.archives import frame_reader
from ktask.cli.archives.frame_reader import CONTENT_MAX, FrameReader

from tests.client.cli.archives.made_frames import packed, skippable


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


def test_groups_when_cut_then_their_positions_are_known() -> None:
    frame, table = packed(b"a" * 500, True, True), skippable(b"table", 3)
    with tempfile.TemporaryFile() as source:
        source.write(table + frame * 2 + table + frame + b"rest")
        source.seek(0)
        reader = FrameReader(source.fileno())
        for group in reader:
            group.close()
    assert list(reader.starts) == [len(table), 2 * len(table) + 2 * len(frame)]
    assert (reader.position, bytes(reader.rest)) == (2 * len(table) + 3 * len(frame), b"rest")
