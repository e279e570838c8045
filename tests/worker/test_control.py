"""A body's reports during a chunk reach the daemon as frames and in the page."""

from __future__ import annotations

import os
import socket
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames
from ktaskd.worker.control import ChunkControl, UndoControl
from ktaskd.worker.frames import SLOT_BEATS, SLOT_POSITION, SLOT_RECALL


def words() -> memoryview:
    return memoryview(bytearray(frames.SLOT_BYTES)).cast("Q")


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(1, 2**53), st.integers(0, 100))
def test_prior_when_there_are_many_holes_then_frames_that_fit_and_cover(
    count: int, step: int, tail: int
) -> None:
    sent: list[bytes] = []
    control = ChunkControl(words(), sent.append)
    control.begin(5)
    holes = [(2 * i * step, (2 * i + 1) * step) for i in range(count)]
    end = 2 * count * step + tail
    control.prior(0, end, holes)
    notes = [frames.unpack_note(frame) for frame in sent]
    assert all(len(frame) <= FRAME_BYTES_MAX for frame in sent)
    assert all((note.kind, note.number) == (frames.PRIOR, 5) for note in notes)
    edges = [(note.body["start"], note.body["end"]) for note in notes]
    assert edges[0][0] == 0
    assert edges[-1][1] == end
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert [tuple(hole) for note in notes for hole in note.body["holes"]] == holes
    for note in notes:
        assert all(note.body["start"] <= a < b <= note.body["end"] for a, b in note.body["holes"])
    assert control.holes == holes
    control.begin(6)
    assert control.holes == []


def test_prior_when_positions_are_the_largest_then_the_frame_fits() -> None:
    sent: list[bytes] = []
    top = 2**63 - 1
    ChunkControl(words(), sent.append).prior(0, top, [(top - 2001 + i, top - 2000 + i) for i in range(2000)])
    assert len(sent) == 2
    assert all(len(frame) <= FRAME_BYTES_MAX for frame in sent)


def test_quantum_when_recalled_up_to_this_one_then_stop() -> None:
    page = words()
    control = ChunkControl(page, bytes)
    control.begin(7)
    page[SLOT_RECALL] = 6
    assert not control.quantum(3)
    page[SLOT_RECALL] = 7
    assert control.quantum(4)
    assert (page[SLOT_POSITION], page[SLOT_BEATS]) == (4, 2)


def test_undo_when_of_an_own_failed_chunk_then_the_position_stays() -> None:
    page = words()
    page[SLOT_POSITION], page[SLOT_RECALL] = 9, 1000
    control = UndoControl(page, publish=False)
    assert not control.quantum(3)
    assert (page[SLOT_POSITION], page[SLOT_BEATS]) == (9, 1)
    assert not UndoControl(page, publish=True).quantum(3)
    assert page[SLOT_POSITION] == 3


def test_rest_when_a_descriptor_is_readable_then_reported_before_and_after_with_which_one() -> None:
    ours, daemons = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wanted, give = os.pipe()
    with ours, daemons, open(give, "wb", buffering=0) as giver, open(wanted, "rb"):
        page, sent = words(), list[bytes]()
        control = ChunkControl(page, sent.append, ours.fileno())
        control.begin(7)
        daemons.send(frames.pack_note(frames.NUDGE, 0))
        assert not control.rest(wanted)
        ours.recv(100)
        giver.write(b"x")
        assert control.rest(wanted)
        notes = [frames.unpack_note(frame) for frame in sent]
        assert notes == [frames.Note(kind, 7, {}) for kind in (frames.RESTS, frames.WAKES) * 2]
        page[SLOT_RECALL] = 7
        assert not control.rest(wanted), "it was recalled before"
