"""Frames are found without decompressing them, whatever a stream holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ktask.cli.archives.zstd_frames import Frame, NoFrame, frame_at

from tests.client.cli.archives.made_frames import packed, skippable

CONTENTS = st.one_of(
    st.binary(max_size=3000),
    st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 200_000)).map(lambda pair: pair[0] * pair[1]),
)
FLAGS = st.tuples(st.booleans(), st.booleans())


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
