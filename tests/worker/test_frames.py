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
    assert frames.unpack_from_worker(frame) == Done(seq, reached, cpu_ns, part)


@given(
    st.sampled_from([frames.READY, frames.PRIOR, frames.PLANNED, frames.REPLY, frames.FAILED]),
    numbers,
    bodies,
)
def test_note_when_packed_then_unpacked_equal(kind: int, number: int, body: dict[str, Any]) -> None:
    frame = frames.pack_note(kind, number, body)
    assert frames.unpack_note(frame) == Note(kind, number, body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (frames.READY, {"cpulist": "0"}),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1, 2]]}),
        (frames.REPLY, {"cpu_ns": 1, "value": {"kept": [[0, 1]]}}),
        (frames.REPLY, {}),
        (frames.FAILED, {"cpu_ns": 1, "errno": None, "dirty": [[0, 1]], "message": "m"}),
    ],
)
def test_note_when_a_worker_would_send_it_then_it_is_taken(kind: int, body: dict[str, Any]) -> None:
    assert frames.unpack_from_worker(frames.pack_note(kind, 7, body)) == Note(kind, 7, body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (frames.PRIOR, {"start": 0, "end": 9}),
        (frames.PRIOR, {"start": "0", "end": 9, "holes": []}),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1]]}),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1, "2"]]}),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1, 2**63]]}),
        (frames.PRIOR, {"start": -1, "end": 9, "holes": []}),
        (frames.REPLY, {"value": [1]}),
        (frames.REPLY, {"value": {"kept": 7}}),
        (frames.FAILED, {"errno": "EIO"}),
        (frames.FAILED, {"dirty": [1, 2]}),
        (frames.JOB, {"function": "file.crc32"}),
    ],
)
def test_note_when_no_worker_would_send_it_then_refused(kind: int, body: dict[str, Any]) -> None:
    with pytest.raises(FrameInvalid):
        frames.unpack_from_worker(frames.pack_note(kind, 7, body))


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
        assert isinstance(frames.unpack_from_worker(frame), Done | Note)
    with contextlib.suppress(FrameInvalid):
        assert isinstance(frames.unpack_note(frame), Note)
    with contextlib.suppress(FrameInvalid):
        assert all(frames.unpack_batch(frame))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x45",
        bytes([frames.DONE]),
        frames.pack_done(1, 2, 3, b"")[:-1],
        frames.pack_note(frames.REPLY, 1, {"a": 1})[:-1],
        frames.pack_note(frames.REPLY, 1) + b"[]",
        frames.pack_note(frames.REPLY, 1) + b'"a"',
        frames.pack_note(frames.REPLY, 1) + b"\xff",
        frames.pack_note(frames.REPLY, 1) + b"[" * 50_000,
    ],
)
def test_frame_when_broken_off_or_of_another_shape_then_refused(frame: bytes) -> None:
    with pytest.raises(FrameInvalid):
        frames.unpack_from_worker(frame)


def test_note_when_without_a_body_then_an_empty_one() -> None:
    assert frames.unpack_note(frames.pack_note(frames.FORGET_JOB, 7)) == Note(frames.FORGET_JOB, 7, {})
