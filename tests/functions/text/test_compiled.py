"""PCRE2 counts the same lines that RE2 finds one by one."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import re2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ktaskd.functions.text import compiled, pcre
from ktaskd.functions.text.rewriting import rewritten
from ktaskd.functions.text.syntax import tree_of
from tests.support.users import REPOSITORY

SINGLE = ["a", "b", "k", "S", "7", "_", "ä", r"\.", r"\-", " ", "-", ".", "^", "$", r"\A", r"\z", r"\b"]
PERL = [r"\d", r"\w", r"\s", r"\D", r"\W", r"\S"]
CLASSES = ["ab", "^a", "a-c7", r"\d_", r"^\w", r"^\s", "-a", "a-", r"\]\-", "aA", " -~", r"\W", r"^\Dk"]
POSIX_CLASSES = ["[:alpha:]", "^[:space:]_", "[:^punct:]"]
POSIX = ["alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper"]
ATOMS = st.sampled_from([*SINGLE, *PERL, *(f"[{members}]" for members in CLASSES + POSIX_CLASSES)])
REPEATS = st.sampled_from(
    ["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "{2,3}", "*?", "+?", "??", "{0}"]
)
PATTERNS = st.recursive(
    st.builds("{}{}".format, ATOMS, REPEATS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join),
        st.builds("({}){}".format, inner, REPEATS),
        st.builds("(?:{}){}".format, inner, REPEATS),
        st.builds("{}.*{}".format, inner, inner),
    ),
    max_leaves=8,
)
PIECES = st.one_of(
    st.sampled_from(b"abckKsS7_.- \t\x0b\r\0]\x7f").map(lambda byte: bytes([byte])),
    st.sampled_from([b"\n", b"\n\n", b"aaa", b"ab" * 3]),
)
ODD = st.sampled_from([b"", b"", b"", "ä".encode(), b"\xc3", b"\xff", "\u212a".encode(), "\u017f".encode()])
TEXTS = st.builds(
    lambda pieces, odd, more: b"".join((*pieces, odd, *more)),
    st.lists(PIECES, max_size=25),
    ODD,
    st.lists(PIECES, max_size=8),
)

needs_library = pytest.mark.skipif(
    pcre._library() is None, reason="PCRE2: needs libpcre2-8 with a compiler that may make memory executable"
)


def never(text: bytes) -> int:
    raise AssertionError("left to RE2")


def by_line(pattern: str, text: bytes, *, ignore_case: bool) -> int:
    """The count by RE2, line by line; raises re2.error."""
    options = re2.Options()
    options.case_sensitive, options.log_errors = not ignore_case, False
    expression = re2.compile(pattern.encode(), options)
    return sum(expression.search(line) is not None for line in text.split(b"\n")[:-1])


def counter(pattern: str, *, ignore_case: bool = False, otherwise: Any = never) -> Any:
    return compiled.compiled(tree_of(pattern, ignore_case=ignore_case), otherwise)


@needs_library
@settings(max_examples=500, deadline=None)
@given(PATTERNS, TEXTS, st.booleans())
def test_pattern_when_compiled_then_counts_the_lines_that_re2_finds(
    pattern: str, text: bytes, ignore_case: bool
) -> None:
    text += b"\n"
    try:
        wanted = by_line(pattern, text, ignore_case=ignore_case)
    except re2.error:
        assume(False)
    tree = tree_of(pattern, ignore_case=ignore_case)
    found = None if tree is None else rewritten(tree)
    assume(found is not None)
    assert found is not None
    program = pcre.program_of(found.pattern)
    assert program is not None, found.pattern
    if not found.ascii_only or text.isascii():
        assert program.count(text, 0, len(text)) == wanted, found.pattern
    assert counter(pattern, ignore_case=ignore_case, otherwise=lambda _: wanted)(text) == wanted


LEFT_TO_RE2 = [
    *(
        "z(a|b)*[bc]d",
        "1([0-9]+[.])*3",
        "(a?){20}a{20}",
        "a.*b|c",
        "1x*a|z",
        "z(a|ab)+$",
        "z(a[ab]*b)*c",
        "z(ab*)+$|b",
    ),
    *("1[a-z]*[a-y]*$", "a.{0,60}b"),
    *(r"\BA", r"\pL", "(?P<x>a)", "(?-i)a", r"\x41", r"x\Ca", r"\Qa\E", "[[:alpha:]-z]", "[]a]", "[ä]"),
    *("a**", r"\b*", "(?i)ä", "(" * 60 + "a" + ")" * 60),
]


@pytest.mark.parametrize("pattern", LEFT_TO_RE2)
def test_pattern_when_not_surely_the_same_or_not_surely_linear_then_left_to_re2(pattern: str) -> None:
    assert counter(pattern) is never


TAKEN = [
    *("a7", "[0-9]", "a7|b7", "^a", "7$", "^$", ".", "a.*b", r"\d+", "(foo|bar)baz", "(?i)error", "[0-9]x*$"),
    *("[0-9]+:[0-9]+", r"\w+ing", "(a*)*b", r"^\d+\s+\w+$", "a.*b.*c", r'"[^"]*"', "GET .* 200", "a+.*b+"),
    *(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", "a.{0,20}b", "ä+", "x+y+z+$"),
    *(r"\bing\b", r"\b[a-z]+\b", "[[:alpha:]]+:[[:space:]]*x", "z(ab)+$", "^([^,]*,){3}[^,]*$", "f(oo|b)*az"),
    *(r"1(z[0-9]+\.)*0", "(a|b)*f(o|b)*a", "^([0-9a-z]+ )+$"),
]


@needs_library
@pytest.mark.parametrize("pattern", TAKEN)
def test_pattern_when_common_then_counted_without_re2(pattern: str) -> None:
    line = b'foobaz a7b7 12:34 ing 10.0.0.1 Error "q" GET / 200 abc xyz \xc3\xa4'[: -2 * (pattern != "ä+")]
    text = line + b"\n\n" + b"z\n" + line + b" 7\n"
    assert counter(pattern)(text) == by_line(pattern, text, ignore_case=False)


@needs_library
@pytest.mark.parametrize("name", [*POSIX, "word", "xdigit"])
def test_posix_class_when_each_byte_then_the_bytes_that_re2_finds(name: str) -> None:
    text = bytes(byte for one in range(128) if one != 10 for byte in (one, 10))
    for pattern in (f"[[:{name}:]]", f"[[:^{name}:]]", f"[^[:{name}:]]"):
        assert counter(pattern)(text) == by_line(pattern, text, ignore_case=False), pattern


@needs_library
@pytest.mark.parametrize("pattern", ["(?i)k", "(?i)s", ".", "[^b]", r"\D"])
def test_text_when_not_ascii_and_that_matters_then_left_to_re2(pattern: str) -> None:
    assert counter(pattern, otherwise=lambda _: 7)("ä\n".encode()) == 7
    assert counter(pattern)(b"ks\n\n") == 1


HOSTILE = [
    ("a.*b", b"a" * 60_000 + b"\n"),
    ("a.*b.*c", b"ab" * 30_000 + b"\n"),
    ("[0-9]x*$", b"0" + b"x" * 60_000 + b"y\n"),
    (r"[^\d]\d*x", b"1" * 60_000 + b"\n"),
    ("1[0-9]*x", b"1" * 10_000 + b"\n"),
    ("1[0-9]*x", b"1" * 60_000 + b"\n"),
    ("x(ab)*c", b"xabab" * 12_000 + b"\n"),
    ("a(ab)*c", b"aab" + b"ab" * 30_000 + b"\n"),
    ("1([0-9]+[.])*x", b"1." * 30_000 + b"\n"),
    (r"\d[0-9]{0,9}[0-9]{0,9}x", b"1" * 60_000 + b"\n"),
]


@needs_library
@pytest.mark.parametrize(("pattern", "line"), HOSTILE)
def test_text_when_hostile_then_seldom_tried_by_pcre2(pattern: str, line: bytes) -> None:
    """RE2 gets lines that are too long, and everything after PCRE2 was slow for a few pieces."""
    left: list[int] = []

    def otherwise(text: bytes) -> int:
        left.append(len(text))
        return 0

    text = line * (2_000_000 // len(line))
    count = counter(pattern, otherwise=otherwise)
    begin = time.thread_time()
    assert count(text) == 0
    taken = time.thread_time() - begin
    # Bounds of this counter: slow only for a while, or not slow at all.
    assert sum(left) > len(text) / 2 or taken < compiled.SLOW_NS * 1e-9 * len(text) + 0.01


@needs_library
def test_count_when_pcre2_gives_up_then_counted_by_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcre.Program, "count", lambda *args: -47)
    assert counter("a", otherwise=lambda text: text.count(b"a"))(b"a\nb\na\n") == 2


@needs_library
def test_count_when_slow_then_re2_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SLOW_NS", 0)
    monkeypatch.setattr(compiled, "SLOW_FROM_NS", 0)
    count = counter("a", otherwise=lambda text: 1000)
    assert count(b"a\n" * 40_000) == 32_769 + 1000


def test_library_when_missing_then_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcre, "_LIBRARY", "libnone.so.0")
    pcre._library.cache_clear()
    try:
        assert counter("a") is never
    finally:
        pcre._library.cache_clear()


@needs_library
def test_program_when_dropped_then_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    program = pcre.program_of(b"a")  # compiled first, since this may load the library
    free = pcre._free

    def freeing(library: Any, code: int, found: int) -> None:
        freed.append(code)
        free(library, code, found)

    monkeypatch.setattr(pcre, "_free", freeing)
    program = pcre.program_of(b"b")
    assert program is not None
    code = program._code
    del program
    assert freed == [code]


WITHOUT_EXECUTABLE_MEMORY = """
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
from ktaskd.functions.text import matching, pcre
assert pcre._library() is None
matcher = matching.matcher_of({"pattern": "a|b7", "regex": True, "ignore_case": False})
assert matcher.count(bytearray(b"b7\\nc\\na\\n"), 7) == 2
"""


def test_library_when_no_memory_may_be_made_executable_then_re2_counts() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXECUTABLE_MEMORY], check=False, cwd=REPOSITORY)
    if done.returncode == 77:
        pytest.skip("executable memory: needs PR_SET_MDWE, of Linux 6.3")
    assert done.returncode == 0
