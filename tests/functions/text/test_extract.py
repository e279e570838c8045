"""text.extract writes the lines that match to their own positions, however the file is cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.functions.text import scanning
from tests.functions.inprocess import MIB, Recorder, lay_out, opened
from tests.functions.text.expressions import SLOW
from tests.functions.text.test_search import lines_of, small_windows

BODY = find("text.extract")
WORDS = st.lists(st.sampled_from([b"a", b"ab", b"b", b"\n", b"\n\n", b"\0", b"\xff", b"x" * 9]), max_size=40)
PATTERNS = [("a", False), ("", False), ("a|b", True), ("^$", True), ("b$", True)]


def extract(directory: Path, content: bytes, cuts: list[int], **arg: Any) -> tuple[dict[str, Any], bytes]:
    """The result of a job with these inner edges, recalled once in each chunk, and what it has written."""
    size = len(content)
    edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
    with opened("file", directory) as data, opened("sealed", directory, name="lines") as lines:
        lay_out(data, size, [(0, content)])
        os.ftruncate(lines.fd, size)
        sources = {"data": data, "lines": lines}
        context = Context(
            {"ignore_case": False, "compact": False, "base": 0, **arg}, sources, {}, (0, size), False
        )
        BODY.prepare(context)
        parts = []
        for start, end in pairwise(edges):
            stop_after = 2
            while start < end:
                start, part = BODY.run(context, start, end, Recorder(stop_after=stop_after))
                assert part is not None
                parts.append(part)
                stop_after = -1
        return BODY.combine(context, parts), os.pread(lines.fd, size, 0)


@SLOW
@given(WORDS, st.lists(st.integers(1, 60), max_size=5), st.sampled_from(PATTERNS))
def test_lines_when_cut_anywhere_then_each_at_its_position(
    tmp_path: Path, words: list[bytes], cuts: list[int], pattern: tuple[str, bool]
) -> None:
    content, (text, regex) = b"".join(words), pattern
    matches: dict[str, Callable[[bytes], bool]] = {
        "a": lambda line: b"a" in line,
        "": lambda line: True,
        "a|b": lambda line: b"a" in line or b"b" in line,
        "^$": lambda line: not line,
        "b$": lambda line: line.endswith(b"b"),
    }
    expected, count, zeros = bytearray(len(content)), 0, []
    for at, line in lines_of(content):
        if matches[text](line):
            count += 1
            zeros += [at] if 0 in line else []
            expected[at : at + len(line) + 1] = content[at : at + len(line) + 1]
    with small_windows(8):
        found, written = extract(tmp_path, content, cuts, pattern=text, regex=regex)
        others, rest = extract(tmp_path, content, cuts, pattern=text, regex=regex, invert=True)
        brief, joined = extract(tmp_path, content, cuts, pattern=text, regex=regex, compact=True)
    assert brief == found
    if found["zero"] < 0:
        assert joined.translate(None, b"\0") == written.translate(None, b"\0")
    assert bytes(a | b for a, b in zip(written, rest, strict=True)) == content
    assert found["count"] + others["count"] == len(lines_of(content))
    assert written == bytes(expected)
    assert found == {"count": count, "zero": min(zeros, default=-1)}


@pytest.mark.parametrize("every", [1, 2, 1000])
def test_lines_when_many_or_few_in_a_buffer_then_all_of_them(tmp_path: Path, every: int) -> None:
    lines = [b"%d%s\n" % (i, b" hit" * (i % every == 0)) for i in range(100_000)]
    content = b"".join(lines)
    found, written = extract(tmp_path, content, [len(content) // 3], pattern="hit", regex=False)
    assert written == b"".join(line if b"hit" in line else bytes(len(line)) for line in lines)
    brief, joined = extract(tmp_path, content, [len(content) // 3], pattern="hit", regex=False, compact=True)
    assert brief == found
    assert joined.translate(None, b"\0") == written.translate(None, b"\0")
    assert found["count"] == len(lines[::every])


def test_line_when_longer_than_the_buffer_then_whole_and_too_long_then_refused(tmp_path: Path) -> None:
    content = b"no\n" + b"y" * MIB + b"hit" + b"z" * MIB + b"\nhit"
    found, written = extract(tmp_path, content, [MIB], pattern="hit", regex=False)
    assert (found["count"], written) == (2, b"\0\0\0" + content[3:])
    long = b"x" * (scanning.LINE_BYTES_MAX + 1)
    with pytest.raises(OSError, match="the line at 0 is too long to be returned whole"):
        extract(tmp_path, long, [], pattern="x", regex=False)
    with pytest.raises(OSError, match="the line at 0 is too long for a regular expression"):
        extract(tmp_path, long, [], pattern="[y]", regex=True)
    found, written = extract(tmp_path, long + b"\nhit\n", [MIB], pattern="hit", regex=False)
    assert (found["count"], written) == (1, bytes(len(long) + 1) + b"hit\n")


def test_memory_when_shorter_than_the_source_then_refused(tmp_path: Path) -> None:
    with opened("file", tmp_path) as data, opened("sealed", tmp_path, name="lines") as lines:
        lay_out(data, 10, [(0, b"0123456789")])
        os.ftruncate(lines.fd, 9)
        context = Context(
            {"pattern": "1", "regex": False, "ignore_case": False, "compact": False, "base": 0},
            {"data": data, "lines": lines},
            {},
            (0, 10),
            True,
        )
        with pytest.raises(OSError, match='source "lines"'):
            BODY.prepare(context)


def test_base_when_given_then_the_memory_begins_there(tmp_path: Path) -> None:
    content = b"one hit\nno\ntwo hit\nno\nthree hit\nno"
    with opened("file", tmp_path) as data, opened("sealed", tmp_path, name="lines") as lines:
        lay_out(data, len(content), [(0, content)])
        os.ftruncate(lines.fd, len(content) - 11)
        arg: dict[str, Any] = {"pattern": "hit", "regex": False, "ignore_case": False}
        arg |= {"compact": False, "base": 11}
        sources = {"data": data, "lines": lines}
        context = Context(arg, sources, {}, (11, 24), False)
        BODY.prepare(context)
        assert BODY.run(context, 11, 24, Recorder())[0] == 24
        expected = b"two hit\n\0\0\0three hit\n\0\0"
        assert os.pread(lines.fd, 99, 0) == expected
        with pytest.raises(OSError, match='argument "base": got 11, wanted at most 10'):
            BODY.prepare(Context(arg, sources, {}, (10, 24), False))


def test_compact_lines_when_run_again_in_other_parts_then_none_is_left_from_before(tmp_path: Path) -> None:
    content = b"".join(b"%d hit\n" % i for i in range(5000)) + b"no\n" * 20_000
    with opened("file", tmp_path) as data, opened("sealed", tmp_path, name="lines") as lines:
        lay_out(data, len(content), [(0, content)])
        os.ftruncate(lines.fd, len(content))
        arg: dict[str, Any] = {"pattern": "[13579] hit", "regex": True, "ignore_case": False}
        arg |= {"compact": True, "base": 0}
        context = Context(arg, {"data": data, "lines": lines}, {}, (0, len(content)), False)
        for edges in ((0, len(content)), (0, 3000, 9001, len(content))):
            for start, end in pairwise(edges):
                assert BODY.run(context, start, end, Recorder())[0] == end
        wanted = b"".join(b"%d hit\n" % i for i in range(1, 5000, 2))
        assert os.pread(lines.fd, len(content), 0).translate(None, b"\0") == wanted


@pytest.mark.parametrize(("start", "end"), [(0, 8), (0, 10), (8, 17), (10, 24), (3, 5)])
def test_undo_when_of_a_span_then_all_lines_that_begin_there_are_gone(
    start: int, end: int, tmp_path: Path
) -> None:
    content = b"one hit\ntwo hit\nthree hit"
    with opened("file", tmp_path) as data, opened("sealed", tmp_path, name="lines") as lines:
        lay_out(data, len(content), [(0, content)])
        os.ftruncate(lines.fd, len(content))
        arg: dict[str, Any] = {"pattern": "hit", "regex": False, "ignore_case": False}
        arg |= {"compact": False, "base": 0}
        context = Context(arg, {"data": data, "lines": lines}, {}, (0, len(content)), False)
        assert BODY.run(context, start, end, Recorder())[0] == end
        assert BODY.undo(context, start, end, (), Recorder()) == []
        assert os.pread(lines.fd, len(content), 0) == bytes(len(content))


@pytest.mark.parametrize("compact", [False, True])
def test_last_line_when_an_earlier_text_had_a_newline_there_then_it_gets_none(
    tmp_path: Path, compact: bool
) -> None:
    content = b"\n\n\n\nab"
    with small_windows(8):
        extract(tmp_path, b"\n" * 16, [], pattern="a", regex=False)
        _, written = extract(tmp_path, content, [], pattern="a", regex=False, compact=compact)
    assert written.strip(b"\0") == b"ab"
