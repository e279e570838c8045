"""Stretches of streams end with lines, and come as soon as the stream pauses."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ktask.cli.searching import stretches
from ktask.cli.searching.stretches import Stretch, of_file, of_stream


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)


def content(stretch: Stretch) -> bytes:
    found = os.pread(stretch.source.fileno(), stretch.end, 0)
    stretch.close()
    return found


def test_stream_when_it_pauses_then_its_lines_so_far(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.write(write, b"one\ntwo\nthr")
    found = of_stream(read)
    assert content(next(found)) == b"one\ntwo\n"
    os.write(write, b"ee\nfour")
    os.close(write)
    assert b"".join(map(content, found)) == b"three\nfour"


def test_stream_when_long_then_pieces_that_end_with_lines(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "PIECE_BYTES", 100)
    monkeypatch.setattr(stretches, "_READ", 64)
    read, write = pipe
    text = b"".join(b"line %d\n" % i for i in range(500)) + b"x" * 300 + b"\nend"
    os.write(write, text)
    os.close(write)
    pieces = list(map(content, of_stream(read)))
    assert b"".join(pieces) == text
    assert len(pieces) > 10
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])


def test_stream_when_empty_then_no_stretch(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(write)
    assert list(of_stream(read)) == []


def test_file_when_cut_then_all_of_it() -> None:
    fd = os.memfd_create("file")
    os.ftruncate(fd, 25)
    with open(fd, "rb") as file:
        assert [(one.start, one.end, one.whole) for one in of_file(file, 10)] == [
            (0, 10, 25),
            (10, 20, 25),
            (20, 25, 25),
        ]
