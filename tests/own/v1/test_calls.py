"""Frames between clients and workers, as bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.v1 import calls

frames = st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=50))


@settings(deadline=None)
@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 500), max_size=8))
def test_frames_when_cut_anywhere_then_the_same_come_out(
    sent: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(calls.pack(*frame) for frame in sent)
    decoder = calls.Decoder()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == sent


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=50))
def test_call_of_when_packed_then_split_again(number: int, function: int, payload: bytes) -> None:
    ((kind, got, body),) = calls.Decoder().feed(calls.pack_call_of(number, function, payload))
    assert (kind, got) == (calls.CALL_OF, number)
    found, rest = calls.split_call_of(body)
    assert (found, bytes(rest)) == (function, payload)


def test_call_of_when_it_is_too_short_then_refused() -> None:
    with pytest.raises(calls.CallsInvalid, match="got 7 bytes, wanted at least 8"):
        calls.split_call_of(bytes(7))
