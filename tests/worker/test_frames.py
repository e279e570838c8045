"""Frames survive a round trip, and anything that is no frame is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.limits import POSITION_MAX
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, FrameInvalid, Note

numbers = st.integers(0, 2**64 - 1)
positions = st.integers(0, POSITION_MAX)
bodies = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.none(), max_size=4)


@given(numbers, numbers, positions, positions, st.integers(-1, 1023))
def test_chunk_when_packed_then_unpacked_equal(seq: int, jno: int, start: int, end: int, nid: int) -> None:
    frame = frames.pack_chunk(seq, jno, start, end, nid)
    assert frame[0] == frames.CHUNK
    assert frames.unpack_chunk(frame) == (seq, jno, start, end, nid)


@given(numbers, positions, numbers, st.binary(max_size=100))
def test_done_when_packed_then_unpacked_equal(seq: int, reached: int, cpu_ns: int, part: bytes) -> None:
    frame = frames.pack_done(seq, reached, cpu_ns, part)
    assert frames.unpack_done(frame) == Done(seq, reached, cpu_ns, part)


@given(
    st.sampled_from([frames.READY, frames.PRIOR, frames.PLANNED, frames.REPLY, frames.FAILED]),
    numbers,
    bodies,
)
def test_note_when_packed_then_unpacked_equal(kind: int, number: int, body: dict[str, Any]) -> None:
    frame = frames.pack_note(kind, number, body)
    assert frames.unpack_note(frame) == Note(kind, number, body)


@pytest.mark.parametrize("part", [b"{", b"[1]", b"7", b"[" * 100_000])
def test_part_when_no_object_then_refused(part: bytes) -> None:
    with pytest.raises(FrameInvalid):
        frames.unpack_part(part)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5))
def test_batch_when_packed_then_unpacked_equal(batch: list[bytes]) -> None:
    frame = frames.pack_batch(batch)
    assert frame[0] == frames.BATCH
    assert frames.unpack_batch(frame) == batch


@given(st.binary(max_size=60))
def test_frame_when_anything_then_a_message_or_refused(frame: bytes) -> None:
    with contextlib.suppress(FrameInvalid):
        assert isinstance(frames.unpack_note(frame), Note)
    with contextlib.suppress(FrameInvalid):
        assert all(frames.unpack_batch(frame))


def test_note_when_without_a_body_then_an_empty_one() -> None:
    assert frames.unpack_note(frames.pack_note(frames.FORGET_JOB, 7)) == Note(frames.FORGET_JOB, 7, {})
