"""Extended expressions find the same lines by RE2 as by GNU grep."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.cli.searching.extended import PatternInvalid, literal, to_re2

ATOMS = st.sampled_from(
    [
        *("a", "b", "7", ".", "^", "$", "-", "{", "}", ",", r"\.", r"\{", r"\\", r"\w", r"\s", r"\b", "["),
        *("]", "|", "(", ")", "[a]", "[^a]", "[]a]", "[^]a]", r"[\a]", "[a-c]", "[a-]", "[[:digit:]]"),
        *("[^[:space:]b]", "[.]", "{,2}", "*", "+", "?", "{2}", "{1,}", "{0,1}", "{1", "()", "(a|b)"),
        *(r"\-", r"\/", " ", r"\W"),
    ]
)
PATTERNS = st.lists(ATOMS, max_size=6).map("".join)
LINES = [
    b"",
    b"a",
    b"b",
    b"ab",
    b"aab",
    b"abab",
    b"7",
    b"a.b",
    b"a-b",
    b"{",
    b"a{1",
    b"a\\b",
    b"]",
    b" a b",
    b"(a)",
]
LINES += [b"a,b", b"}", b"^a$", b"*a", b"a+b?", b"|", b"aaa b"]


def by_grep(pattern: str) -> list[bytes] | None:
    """The lines that grep finds; None if it refuses the pattern."""
    done = subprocess.run(
        ["grep", "-E", "-e", pattern],
        input=b"\n".join(LINES) + b"\n",
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    return None if done.returncode == 2 else done.stdout.split(b"\n")[:-1]


def by_re2(pattern: str) -> list[bytes] | None:
    options = re2.Options()
    options.log_errors = False
    try:
        expression = re2.compile(to_re2(pattern).encode(), options)
    except (PatternInvalid, re2.error):
        return None
    return [line for line in LINES if expression.search(line)]


@settings(max_examples=100, deadline=None)
@given(PATTERNS)
def test_pattern_when_translated_then_the_lines_that_grep_finds(pattern: str) -> None:
    found, expected = by_re2(pattern), by_grep(pattern)
    if found is not None and expected is not None:
        assert found == expected, to_re2(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[[.-.]]", r"[\-]"),
        ("[[=a=]b]", "[ab]"),
        (r"\<foo\>", r"\bfoo\b"),
        (r"\<(foo|bar)\>", r"\b(foo|bar)\b"),
        ("a+?", "(?:a+)?"),
        ("a{,3}", "a{0,3}"),
        (r"\d\t\q", r"\d\tq"),
        ("^*a", "(?:^)*a"),
        ("(?i)a(?:b)(?P<n>c)", "(?i)a(?:b)(?P<n>c)"),
        ("ä[ö-ü]", "ä[ö-ü]"),
        (r"\ä\/", r"ä\/"),
    ],
)
def test_pattern_when_of_this_form_then_translated(pattern: str, expected: str) -> None:
    assert to_re2(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a\\", "ends with a backslash"),
        ("[a", 'has "[" without its "]"'),
        ("[", 'has "[" without its "]"'),
        ("[[:nosuch:]]", "no known class"),
        ("[[:alpha:", "no known class"),
        ("[:alpha:]", "in two brackets"),
        (r"(a)\1", r"back-reference \1"),
        ("a{3,2}", "at most less often"),
        (r"\<-", r"\< that is not next to a word"),
        (r"-\>", r"\> that is not next to a word"),
        (r"\<a*", r"\< that is not next to a word"),
        (r"(-|a)\>", r"\> that is not next to a word"),
        (r"\<(a|b)*c", r"\< that is not next to a word"),
        (r"a*\>", r"\> that is not next to a word"),
    ],
)
def test_pattern_when_it_cannot_be_translated_then_the_reason(pattern: str, problem: str) -> None:
    with pytest.raises(PatternInvalid, match=re.escape(problem)):
        to_re2(pattern)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8))
def test_literal_when_any_text_then_matches_it_alone(text: str) -> None:
    options = re2.Options()
    options.never_nl = True
    found = re2.compile(f"^(?:{literal(text)})$".encode(), options)
    assert found.search(text.encode()) is not None
    assert found.search(text.encode() + b"x") is None
