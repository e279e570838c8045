"""A matcher counts the lines of a buffer as RE2 does line by line, and many of them in one call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.functions.text import compiled, counting, matching
from tests.functions.text.expressions import EXPRESSIONS, SLOW

STRETCHES = st.lists(
    st.tuples(
        st.lists(
            st.sampled_from([b"a", b"ab", b"b", b"A b", b"", "ä".encode(), b"\xff", b"bc" * 60]), min_size=1
        ),
        st.integers(1, 120),
        st.sampled_from([b"", b"x" * 900 + b"\n"]),
    ),
    max_size=4,
)
"""Lines, how often they are repeated, and something sparse between them."""


def text_of(stretches: list[tuple[list[bytes], int, bytes]]) -> bytes:
    return b"".join((b"\n".join(lines) + b"\n" + sparse) * count for lines, count, sparse in stretches)


def counted(pattern: str, text: bytes, *, regex: bool, ignore_case: bool = False) -> int:
    """Run a test with PCRE2 if possible, and with RE2: both must find the same."""
    arg: dict[str, Any] = {"pattern": pattern, "regex": regex, "ignore_case": ignore_case}
    found = matching.matcher_of(arg).count(bytearray(text), len(text))
    assert found == counted_by_re2(pattern, text, regex=regex, ignore_case=ignore_case)
    return found


def counted_by_re2(pattern: str, text: bytes, *, regex: bool, ignore_case: bool = False) -> int:
    arg: dict[str, Any] = {"pattern": pattern, "regex": regex, "ignore_case": ignore_case}
    with pytest.MonkeyPatch.context() as patch, forgotten():
        patch.setattr(compiled, "program_of", lambda pattern: None)
        return matching.matcher_of(arg).count(bytearray(text), len(text))


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Keep no matcher from before this block, nor from inside it."""
    matching._matcher.cache_clear()
    try:
        yield
    finally:
        matching._matcher.cache_clear()


@SLOW
@given(STRETCHES, st.sampled_from(EXPRESSIONS), st.booleans(), st.sampled_from([b"", b"\xff", b"a"]))
def test_expression_when_lines_match_by_stretches_then_counted_as_on_each_line(
    stretches: list[tuple[list[bytes], int, bytes]], pattern: str, ignore_case: bool, odd: bytes
) -> None:
    text = text_of(stretches) + odd
    options = re2.Options()
    options.case_sensitive = not ignore_case
    expression = re2.compile(pattern.encode(), options)
    lines = text.split(b"\n")
    matched = {line: expression.search(line) is not None for line in set(lines)}
    wanted = sum(matched[line] for line in lines)
    assert counted(pattern, text, regex=True, ignore_case=ignore_case) == wanted


@SLOW
@given(
    STRETCHES,
    st.sampled_from(["", "a", "b", "A b", "ä", "a.b", "bcb", "c" * 3]),
    st.sampled_from(["{}", "^{}", "{}$", "^{}$", r"\A{}", r"{}\z", r"\A{}\z"]),
    st.sampled_from([b"", b"\xff"]),
)
def test_literal_when_lines_have_it_by_stretches_then_counted_as_on_each_line(
    stretches: list[tuple[list[bytes], int, bytes]], literal: str, form: str, odd: bytes
) -> None:
    text, needle = text_of(stretches) + odd, literal.encode()
    begins, ends = form[0] != "{", form[-1] != "}"
    wanted = sum(
        (line == needle if begins and ends else line.startswith(needle) if begins else line.endswith(needle))
        if begins or ends
        else needle in line
        for line in text.split(b"\n")
    )
    if form == "{}":
        assert counted(literal, text, regex=False) == wanted
    if "." not in literal:
        assert counted(form.format(literal), text, regex=True) == wanted


@pytest.mark.parametrize("every", [1, 2, 3, 10, 30])
def test_expression_when_lines_are_short_then_many_are_counted_at_once(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = b"127.0.0.1 GET 200\n" + b"none\n" * (every - 1)
    text = block * 3000
    for pattern in ("200|201", r"^(1|2)", r"\A1.", "(?i)get", "(GET|PUT) 200", r"\QGET\E .", "(?-i)T 2.0"):
        calls = _calls(monkeypatch)
        assert counted_by_re2(pattern, text, regex=True) == 3000
        assert 0 < calls[0] <= 3000 / 10, pattern


@pytest.mark.parametrize(
    "pattern", ["q[0-9]", "^q|x", "q.?", "(?i)Q1", "q1$", r"q1\b", r"q1\z", "q[0-9]+y*ä?"]
)
@pytest.mark.parametrize(
    "odd", [b"", b"q1\n", b"y" * 70 + b"q1\n", b"\n", b"y" * 90 + b"\n", b"y" * 15 + b"q1\n"]
)
@pytest.mark.parametrize("at", [0, 100, 699])
def test_expression_when_long_lines_match_near_their_beginning_then_counted_as_on_each_line(
    pattern: str, odd: bytes, at: int
) -> None:
    lines = [b"yq1" + b"y" * (50 + i % 40) + b"\n" for i in range(700)]
    lines[at] = odd
    text = b"".join(lines) * 3
    expression = re2.compile(pattern.encode())
    wanted = sum(expression.search(line) is not None for line in text.split(b"\n")[:-1])
    matcher = matching.matcher_of({"pattern": pattern, "regex": True, "ignore_case": False})
    assert matcher.count(bytearray(text), len(text) - 1) == wanted


@pytest.mark.parametrize("pattern", ["q1 |y$", r"q1 |y\b", r"q1 |y\z", r"q1 |y\B$"])
def test_expression_when_it_looks_at_what_follows_then_lines_are_not_cut_for_it(pattern: str) -> None:
    lines = [b"yq1 " + b"x" * 60 + b"\n"] * 700
    lines[300] = b"y" * 90 + b"z\n"
    assert counted(pattern, b"".join(lines)[:-1], regex=True) == 699


@pytest.mark.parametrize(
    ("pattern", "text", "wanted"),
    [
        (r"x\Ca", b"x\na\nxxa", 1),
        (r"x\\Ca", b"x\\Ca\nxa", 1),
        ("(?-m:^a)", b"b\na", 1),
        ("(?i-ms)b$", b"B\na", 1),
    ],
)
def test_expression_when_other_lines_could_be_seen_then_each_by_itself(
    pattern: str, text: bytes, wanted: int
) -> None:
    assert counted(pattern, text, regex=True) == wanted


def _calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list whose one element counts the calls of RE2 from now on."""
    calls, matching_before = [0], re2._Regexp._make
    matching.forget_patterns()

    class Counted:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def Match(self, *args: Any) -> Any:
            calls[0] += 1
            return self._inner.Match(*args)

    def make(*args: Any) -> Any:
        found = matching_before(*args)
        if not isinstance(found._regexp, Counted):
            monkeypatch.setattr(re2._Regexp, "programsize", found.programsize)
            found._regexp = Counted(found._regexp)
        return found

    make.cache_clear = matching_before.cache_clear  # type: ignore[attr-defined]
    monkeypatch.setattr(re2._Regexp, "_make", make)
    return calls


def test_groups_when_their_automaton_outgrows_its_memory_then_no_longer_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "_SLOW_NS", 0)
    monkeypatch.setattr(counting, "_SLOW_FROM_NS", 0)
    text = b"a1\n" * 50_000
    calls = _calls(monkeypatch)
    assert counted_by_re2("a[0-9]", text, regex=True) == 50_000
    assert calls[0] > 20_000
