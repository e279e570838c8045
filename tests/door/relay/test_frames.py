"""The begin and end of calls in a stream of bytes, however it is split into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.door.relay.frames import DATA, END_STREAM, HEADERS, PREFACE, RST_STREAM, Frames, Mark


def frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Make a frame. Source: RFC 9113, section 4.1."""
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + b"x" * length


def marks_of(frames: Frames, piece: bytes) -> list[Mark]:
    """Return all marks in one piece."""
    found, at = [], 0
    while at < len(piece):
        mark, at = frames.next(memoryview(piece), at)
        if mark is not None:
            found.append(mark)
    return found


_FRAMES = st.lists(
    st.tuples(
        st.sampled_from([DATA, HEADERS, RST_STREAM, 4, 6, 8]),
        st.integers(0, 255),
        st.integers(0, 2**31 - 1),
        st.integers(0, 40),
    ),
    max_size=30,
)


@given(_FRAMES, st.lists(st.integers(1, 30), min_size=1, max_size=40), st.booleans())
def test_marks_when_cut_anywhere_then_the_same(
    wanted: list[tuple[int, int, int, int]], pieces: list[int], has_preface: bool
) -> None:
    stream, starts = (PREFACE if has_preface else b""), []
    for one in wanted:
        starts.append(len(stream))
        stream += frame(*one)
    frames, found, at, i = Frames(PREFACE if has_preface else b""), [], 0, 0
    while at < len(stream):
        piece = stream[at : at + pieces[i % len(pieces)]]
        for mark in marks_of(frames, piece):
            # A frame whose header began in an earlier piece can only be held from here on.
            found.append((at + mark.offset, mark.kind, mark.flags, mark.stream, mark.size))
        at, i = at + len(piece), i + 1
    seen = [
        (start, kind, flags, number, length)
        for start, (kind, flags, number, length) in zip(starts, wanted, strict=True)
    ]
    assert [mark[1:] for mark in found] == [mark[1:] for mark in seen]
    for (offset, *_), (start, *_) in zip(found, seen, strict=True):
        assert start <= offset < start + 9


def test_marks_when_it_is_no_http2_then_none() -> None:
    frames = Frames(PREFACE)
    assert marks_of(frames, PREFACE[:10]) == []
    assert marks_of(frames, b"x" + frame(HEADERS, 0, 1, 0)) == []
    assert marks_of(frames, frame(HEADERS, 0, 1, 0)) == []


def test_mark_when_it_ends_a_call_then_says_so() -> None:
    assert Mark(0, HEADERS, END_STREAM, 1).ends
    assert Mark(0, DATA, END_STREAM, 1).ends
    assert Mark(0, RST_STREAM, 0, 1).ends
    assert not Mark(0, HEADERS, 4, 1).ends
    assert not Mark(0, 4, 1, 0).ends, "an acknowledgement of settings has the same flag"
    assert Mark(0, HEADERS, 4, 1).opens
    assert not Mark(0, DATA, 0, 1).opens
