"""text.search finds the same lines as grep, however the file is cut."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.functions import quanta
from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.functions.text import matching, search
from ktaskd.model.limits import PART_BYTES_MAX
from ktaskd.worker.failures import encoded
from ktaskd.worker.sources import Source
from tests.functions.inprocess import MIB, Recorder, lay_out, opened
from tests.functions.text.expressions import EXPRESSIONS, SLOW

BODY = find("text.search")
EDGE = 64 << 10
DEFAULTS: dict[str, Any] = {
    "regex": False,
    "ignore_case": False,
    "invert": False,
    "show": "count",
    "limit": 1000,
}


def context_of(source: Source, pattern: str, span: tuple[int, int], **arg: Any) -> Context:
    return Context({**DEFAULTS, "pattern": pattern, **arg}, {"data": source}, {}, span, False)


def look(source: Source, pattern: str, cuts: list[int] | None = None, **arg: Any) -> dict[str, Any]:
    """The result of a job with these inner edges, recalled once in each chunk."""
    size = source.size()
    edges = sorted({0, size, *(cut for cut in cuts or () if cut < size)})
    context = context_of(source, pattern, (0, size), **arg)
    BODY.prepare(context)
    parts = []
    for start, end in pairwise(edges):
        stop_after = 2
        while start < end:
            reached, part = BODY.run(context, start, end, Recorder(stop_after=stop_after))
            assert part is not None
            assert len(encoded(part)) <= PART_BYTES_MAX
            parts.append(part)
            start, stop_after = reached, -1
    return BODY.combine(context, parts)


def lines_of(content: bytes) -> list[tuple[int, bytes]]:
    """All lines with their offsets; bytes after the last newline are a line, unless there are none."""
    found, at = [], 0
    for line in content.split(b"\n"):
        found.append((at, line))
        at += len(line) + 1
    return found if found[-1][1] else found[:-1]


WORDS = st.lists(st.sampled_from([b"a", b"ab", b"b", b"\n", b"\n\n", b"A", b"\xff", b"x" * 9]), max_size=40)
PATTERNS = ["a", "ab", "", "ba", "x" * 12]


@SLOW
@given(WORDS, st.lists(st.integers(1, 60), max_size=5), st.sampled_from(PATTERNS), st.integers(3, 12))
def test_literal_when_cut_anywhere_then_the_lines_that_have_it(
    tmp_path: Path, words: list[bytes], cuts: list[int], pattern: str, window: int
) -> None:
    content = b"".join(words)
    wanted = [at for at, line in lines_of(content) if pattern.encode() in line]
    with opened("file", tmp_path) as source, small_windows(max(window, len(pattern) + 1)):
        lay_out(source, len(content), [(0, content)])
        found = look(source, pattern, cuts, show="offsets")
        counted = look(source, pattern, cuts)
    assert found == {"count": len(wanted), "offsets": wanted, "truncated": False}
    assert counted == {"count": len(wanted)}


@SLOW
@given(WORDS, st.lists(st.integers(1, 60), max_size=5), st.sampled_from(EXPRESSIONS), st.booleans())
def test_expression_when_cut_anywhere_then_as_on_each_line(
    tmp_path: Path, words: list[bytes], cuts: list[int], pattern: str, ignore_case: bool
) -> None:
    content = b"".join(words)
    options = re2.Options()
    options.case_sensitive = not ignore_case
    expression = re2.compile(pattern.encode(), options)
    wanted = [at for at, line in lines_of(content) if expression.search(line)]
    with opened("file", tmp_path) as source, small_windows(7):
        lay_out(source, len(content), [(0, content)])
        found = look(source, pattern, cuts, regex=True, ignore_case=ignore_case, show="offsets")
        counted = look(source, pattern, cuts, regex=True, ignore_case=ignore_case)
    assert found == {"count": len(wanted), "offsets": wanted, "truncated": False}
    assert counted == {"count": len(wanted)}


class small_windows:
    """Make windows so short that most lines are longer."""

    def __init__(self, size: int) -> None:
        self._patch = pytest.MonkeyPatch()
        self._size = size

    def __enter__(self) -> None:
        self._patch.setattr(search, "BUFFER", self._size)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


@pytest.mark.parametrize("kind", ["sealed", "file"])
@pytest.mark.parametrize(
    ("options", "arg"),
    [
        (["-F"], {}),
        (["-E"], {"regex": True}),
        (["-i", "-F"], {"ignore_case": True}),
    ],
)
def test_search_when_beside_grep_then_the_same(
    kind: str, options: list[str], arg: dict[str, Any], tmp_path: Path
) -> None:
    text = b"".join(b"%d the Quick brown fox %x\n" % (i, i * 7919) for i in range(50_000)) + b"no newline 17"
    path = tmp_path / "text"
    path.write_bytes(text)
    with opened(kind, tmp_path) as source:
        lay_out(source, len(text), [(0, text)])
        for pattern in ("quick", "17", "zz", "f0"):
            done = subprocess.run(
                ["grep", "-a", "-b", *options, pattern, path], capture_output=True, check=False
            )
            offsets = [int(line.partition(b":")[0]) for line in done.stdout.splitlines()]
            found = look(source, pattern, [MIB // 3, MIB], show="offsets", limit=1000, **arg)
            assert found["count"] == len(offsets)
            assert found["offsets"] == offsets[: len(found["offsets"])]
            assert found["truncated"] == (len(offsets) > len(found["offsets"]))


def test_search_when_there_is_more_than_is_told_then_the_first_whatever_the_cut(tmp_path: Path) -> None:
    text = b"".join(b"x" * (i % 700) + b"\n" for i in range(3000))
    with opened("file", tmp_path) as source:
        lay_out(source, len(text), [(0, text)])
        whole = look(source, "x", show="lines")
        assert whole["truncated"]
        assert 20 < len(whole["lines"]) < 1000
        for cuts in ([1, 2, 3], list(range(0, len(text), 5000))):
            assert look(source, "x", cuts, show="lines") == whole
        assert len(look(source, "x", [9000], show="lines", limit=3)["lines"]) == 3


def test_lines_when_told_then_as_they_are_or_escaped_or_cut(tmp_path: Path) -> None:
    text = "ä1\n".encode() + b"\xff1\n" + b"1" * 2000 + b"\n"
    with opened("file", tmp_path) as source:
        lay_out(source, len(text), [(0, text)])
        assert look(source, "1", show="lines")["lines"] == [
            {"offset": 0, "text": "ä1"},
            {"offset": 4, "text": "\\xff1"},
            {"offset": 7, "text": "1" * 1000, "cut": True},
        ]


def test_line_when_longer_than_any_buffer_then_a_literal_is_found_and_an_expression_refuses(
    tmp_path: Path,
) -> None:
    size = 9 * MIB
    with opened("file", tmp_path) as source:
        lay_out(source, size, [(0, b"a\n"), (quanta.BUFFER + 1, b"needle"), (size - 2, b"\nn")])
        for cuts in ([], [5, MIB, 8 * MIB]):
            assert look(source, "needle", cuts, show="offsets")["offsets"] == [2]
            assert look(source, "n", cuts, show="offsets")["offsets"] == [2, size - 1]
        with pytest.raises(OSError, match='source "data": the line at 2 is too long'):
            look(source, "needle", regex=True)


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_line_when_cut_off_while_it_is_read_then_an_error(pieces: int, tmp_path: Path) -> None:
    size = pieces * quanta.BUFFER
    with opened("file", tmp_path) as source:
        lay_out(source, size, [(0, b"x" * size)])
        context = context_of(Shrunk(source, size * 2), "x$", (0, size), regex=True)
        with pytest.raises(OSError, match=f'source "data": ends at {size}'):
            BODY.run(context, 0, size, Recorder())


class Shrunk(Source):
    """A source that was longer when its length was first read. It does not own the descriptor."""

    def __init__(self, source: Source, before: int) -> None:
        super().__init__(source.fd, source.facts)
        self._sizes = [before, before]

    def size(self) -> int:
        return self._sizes.pop() if self._sizes else super().size()


@pytest.mark.parametrize(
    "length", [1, EDGE, quanta.BUFFER, quanta.BUFFER + 1, 3 * quanta.BUFFER, 8 * MIB - 1]
)
def test_line_when_longer_than_the_buffer_then_found(length: int, tmp_path: Path) -> None:
    line = b"x" * (length - 1) + b"7"
    text = b"a\n" + line + b"\nb\n" + line + b"\n"
    with opened("file", tmp_path) as source:
        lay_out(source, len(text), [(0, text)])
        found = look(source, "x*7$", [5, MIB], regex=True, show="offsets")
    assert found["offsets"] == [2, 5 + length]


@pytest.mark.parametrize("size", [0, 1, EDGE - 1, EDGE, EDGE + 1])
def test_search_when_all_are_newlines_then_every_line_is_empty(size: int, tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        lay_out(source, size, [(0, b"\n" * size)])
        assert look(source, "", [EDGE])["count"] == size
        assert look(source, "^$", [EDGE - 1], regex=True)["count"] == size
        assert look(source, "x", [EDGE])["count"] == 0


def test_items_when_searched_then_one_result_each_and_no_part_too_long(tmp_path: Path) -> None:
    with opened("file", tmp_path) as full, opened("memfd", tmp_path) as empty:
        lay_out(full, 200_000, [(0, (b"y" * 99 + b"\n") * 2000)])
        items = {0: full, 1: empty, 2: full, 3: full}
        arg = {**DEFAULTS, "pattern": "y", "show": "lines"}
        context, results, at = Context(arg, {}, items, (0, 4), True), [], 0
        while at < 4:
            at, part = BODY.run(context, at, 4, Recorder())
            assert part is not None
            assert len(encoded(part)) <= PART_BYTES_MAX
            results += part["items"]
    assert [result["count"] for result in results] == [2000, 0, 2000, 2000]
    assert results[1] == {"count": 0, "lines": [], "truncated": False}


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ({"pattern": "(", "regex": True}, 'argument "pattern": not a regular expression of RE2: missing \\)'),
        (
            {"pattern": "a)(b", "regex": True},
            'argument "pattern": not a regular expression of RE2: unexpected',
        ),
        ({"pattern": "a{1000}{1000}", "regex": True}, 'argument "pattern": not a regular expression of RE2'),
        ({"pattern": "a\nb"}, 'argument "pattern": has a newline'),
        ({"pattern": "x" * 4097}, 'argument "pattern": got 4097 bytes, wanted at most 4096'),
        ({"pattern": "x", "show": "all"}, 'argument "show": got "all", wanted count, offsets or lines'),
    ],
)
def test_arguments_when_wrong_then_refused_before_anything_is_read(arg: dict[str, Any], words: str) -> None:
    with pytest.raises(OSError, match=words):
        BODY.prepare(Context({**DEFAULTS, **arg}, {}, {}, (0, 0), True))


def test_wipe_when_called_then_no_text_and_no_pattern_is_left(tmp_path: Path) -> None:
    body = search.Search()
    with opened("file", tmp_path) as source:
        lay_out(source, 600_000, [(0, b"s" * 600_000)])
        context = context_of(source, "secret", (0, 600_000), regex=True)
        body.run(context, 0, 600_000, Recorder())
    assert len(body._buffer) > 600_000
    body.wipe()
    assert not any(body._buffer)
    assert len(body._buffer) == quanta.BUFFER
    assert matching._matcher.cache_info().currsize == 0
    assert re2._Regexp._make.cache_info().currsize == 0
