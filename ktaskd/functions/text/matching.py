"""Matches lines against a literal or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import re2
from numpy.typing import NDArray

from ktaskd.functions.text.compiled import compiled
from ktaskd.functions.text.counting import (
    ANYWHERE,
    Count,
    CounterOfExpression,
    Groups,
    Match,
    counter_of_literal,
)
from ktaskd.functions.text.marking import Marker, marker_of
from ktaskd.functions.text.syntax import tree_of, tree_of_literal
from ktaskd.functions.text.trees import Node
from ktaskd.model.function import ArgValue

PATTERN_BYTES_MAX = 4096

_MEMORY = 8 << 20
"""Limit of RE2's memory for one expression and its automaton; also RE2's default."""

_TOKEN = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|\Z)|\\(?P<escaped>.)|\(\?[a-zA-Z]*-(?P<without>[a-zA-Z]*)|"
    r"(?P<named>\(\?P?<\w+>)|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|.",
    re.DOTALL,
)
"""Quoted text, an escape, removed flags, a named group, a class, or one character."""

_ENDS = {"A": "^", "z": "$"}
"""Anchors at the ends of the text, and those that find the same ends of a line among other lines."""

_LAZY = re.compile(r"[*+?}]\?|\(\?[a-zA-Z]*U")
"""Anything that may be lazy: the flag U would make it greedy."""

_LOOKS_AHEAD = re.compile(r"\$|\\[bBz]")
"""Anything whose match may depend on the bytes after it."""

_PLAIN = re.compile(r"(\^|\\A)?([^\\.^$*+?()\[\]{}|]*)(\$|\\z)?")
"""A literal with an optional anchor at either end."""


class CannotMatch(ValueError):
    """A pattern is unusable; the text says why."""


class Matcher(Protocol):
    """Finds lines in a text of whole lines. No method keeps a reference to the text."""

    overlap: int | None
    """Bytes by which two pieces of a line must overlap so that no match is missed; None if a line must be
    searched in one piece."""

    def lines(self, text: bytearray, stop: int) -> Iterator[tuple[int, int]]:
        """Lines of text[:stop] that match, ascending, each without its newline.

        The newline of the last line is not part of text[:stop].
        """

    def count(self, text: bytearray, stop: int) -> int:
        """The number of lines of text[:stop] that match."""

    def flags(self, text: bytearray, stop: int) -> NDArray[np.bool_] | None:
        """For each line of text[:stop] whether it matches; None if `lines` is as good a way."""

    def is_in(self, piece: bytearray, stop: int) -> bool:
        """Whether piece[:stop], a part of one line, matches."""


def matcher_of(arg: Mapping[str, ArgValue]) -> Matcher:
    """The matcher for the arguments of text.search; raises CannotMatch."""
    found = _matcher(str(arg["pattern"]), bool(arg["regex"]), bool(arg["ignore_case"]))
    return Inverted(found) if arg.get("invert") else found


@lru_cache(maxsize=4)
def _matcher(pattern: str, regex: bool, ignore_case: bool) -> Matcher:
    encoded = pattern.encode()
    if len(encoded) > PATTERN_BYTES_MAX:
        raise CannotMatch(f"got {len(encoded)} bytes, wanted at most {PATTERN_BYTES_MAX}")
    if "\n" in pattern:
        raise CannotMatch("has a newline, which no line contains; remove it")
    if regex or ignore_case:
        return _Expression(pattern, regex, ignore_case)
    return _Literal(pattern)


def forget_patterns() -> None:
    """Forget all patterns so far."""
    _matcher.cache_clear()
    re2.purge()


class _Literal:
    """Matches a literal."""

    def __init__(self, pattern: str) -> None:
        self._needle = needle = pattern.encode()
        groups = Groups(re2.escape(needle), _options(ignore_case=False))
        tree = tree_of_literal(pattern, ignore_case=False)
        self._count = _counter_of_literal(pattern, groups, tree)
        self._marks = Marks(tree)
        self.overlap: int | None = max(len(needle) - 1, 0)

    def lines(self, text: bytearray, stop: int) -> Iterator[tuple[int, int]]:
        needle, at = self._needle, 0
        while at <= stop:
            found = text.find(needle, at, stop)
            if found < 0:
                return
            after = text.find(b"\n", found, stop)
            after = stop if after < 0 else after
            yield max(text.rfind(b"\n", at, found) + 1, at), after
            at = after + 1

    def count(self, text: bytearray, stop: int) -> int:
        return self._count(_whole_lines(text, stop))

    def flags(self, text: bytearray, stop: int) -> NDArray[np.bool_] | None:
        return self._marks.flags(text, stop)

    def is_in(self, piece: bytearray, stop: int) -> bool:
        return piece.find(self._needle, 0, stop) >= 0


class _Expression:
    """Matches an expression with RE2, whose time is linear in the text for all expressions."""

    overlap: int | None = None

    def __init__(self, pattern: str, regex: bool, ignore_case: bool) -> None:
        options = _options(ignore_case)
        options.literal = not regex
        self._search = _compiled(pattern.encode(), options).search
        self._count: Count | None = None
        self._match: Match
        self._marks = Marks(None)
        options.literal = False
        among_lines = _among_lines(pattern) if regex else re2.escape(pattern)
        if among_lines is not None:
            expression = _compiled(f"(?m){among_lines}".encode(), options)
            self._search, self._match = expression.search, expression._regexp.Match
            tree = (tree_of if regex else tree_of_literal)(pattern, ignore_case=ignore_case)
            self._marks = Marks(tree)
            self._count = _counter_of(pattern, among_lines, tree, options, plain=regex and not ignore_case)

    def lines(self, text: bytearray, stop: int) -> Iterator[tuple[int, int]]:
        content = bytes(memoryview(text)[:stop])
        if self._count is None:
            yield from self._each_line(content)
            return
        match, at = self._match, 0
        while at <= stop:
            # A tenth of the time of `search`, which makes an object for each match.
            ((found, _),) = match(ANYWHERE, content, at, stop)
            if found < 0:
                return
            after = content.find(b"\n", found)
            after = stop if after < 0 else after
            yield max(content.rfind(b"\n", at, found) + 1, at), after
            at = after + 1

    def _each_line(self, content: bytes) -> Iterator[tuple[int, int]]:
        at = 0
        for line in content.split(b"\n"):
            if self._search(line) is not None:
                yield at, at + len(line)
            at += len(line) + 1

    def count(self, text: bytearray, stop: int) -> int:
        if self._count is None:
            return sum(1 for _ in self.lines(text, stop))
        return self._count(_whole_lines(text, stop))

    def flags(self, text: bytearray, stop: int) -> NDArray[np.bool_] | None:
        return self._marks.flags(text, stop)

    def is_in(self, piece: bytearray, stop: int) -> bool:
        return self._search(bytes(memoryview(piece)[:stop])) is not None


class Inverted:
    """Matches the lines that another matcher does not match."""

    overlap: int | None = None

    def __init__(self, matcher: Matcher) -> None:
        """Keep it."""
        self._matcher = matcher

    def lines(self, text: bytearray, stop: int) -> Iterator[tuple[int, int]]:
        """As Matcher."""
        at = 0
        for first, after in self._matcher.lines(text, stop):
            yield from _all_lines(text, at, first)
            at = after + 1
        yield from _all_lines(text, at, stop + 1)

    def count(self, text: bytearray, stop: int) -> int:
        """As Matcher."""
        return text.count(b"\n", 0, stop) + 1 - self._matcher.count(text, stop)

    def flags(self, text: bytearray, stop: int) -> NDArray[np.bool_] | None:
        """As Matcher."""
        flags = self._matcher.flags(text, stop)
        return None if flags is None else ~flags

    def is_in(self, piece: bytearray, stop: int) -> bool:
        """As Matcher; for a whole line."""
        return not self._matcher.is_in(piece, stop)


def _all_lines(text: bytearray, at: int, end: int) -> Iterator[tuple[int, int]]:
    """The lines of text[at:end], which ends behind the newline of the last one."""
    while at < end:
        after = text.find(b"\n", at, end)
        after = end - 1 if after < 0 else after
        yield at, after
        at = after + 1


class Marks:
    """A marker that is made at its first use: most jobs need none."""

    def __init__(self, tree: Node | None) -> None:
        """Keep the pattern's tree; None = it has none."""
        self._tree = tree
        self._marker: Marker | None = None

    def flags(self, text: bytearray, stop: int) -> NDArray[np.bool_] | None:
        """As Matcher."""
        if self._tree is not None:
            self._marker, self._tree = marker_of(self._tree), None
        return None if self._marker is None else self._marker.flags(_whole_lines(text, stop))


def _whole_lines(text: bytearray, stop: int) -> bytes:
    """text[:stop] and the newline of its last line."""
    return b"".join((memoryview(text)[:stop], b"\n"))


def _among_lines(pattern: str) -> str | None:
    r"""Return an expression that matches the same lines when it searches many lines at once.

    None if there may be no such expression: `\C` matches newlines, and removed flags may include `m`.
    """
    found = []
    for token in _TOKEN.finditer(pattern):
        if token["escaped"] == "C" or "m" in (token["without"] or ""):
            return None
        found.append(_among_lines_of(token))
    # Not put into brackets, which could turn two invalid halves into a valid expression.
    return "".join(found)


def _among_lines_of(token: re.Match[str]) -> str:
    """One token. A named group becomes unnamed: capturing it would take RE2 several times as long."""
    if token["quoted"] is not None:
        return str(re2.escape(token["quoted"]))
    return "(?:" if token["named"] else _ENDS.get(token["escaped"], token[0])


def _counter_of(pattern: str, among_lines: str, tree: Node | None, options: Any, *, plain: bool) -> Count:
    """Return a counter of the lines that match.

    Args:
        among_lines: the expression for many lines at once.
        tree: the pattern's tree; None = it has none.
        plain: a pattern that looks like a literal is one.
    """
    groups, literal = Groups(among_lines.encode(), options), _PLAIN.fullmatch(pattern) if plain else None
    if literal is not None and not all(literal.groups()):
        begin, needle, end = literal.groups()
        return _counter_of_literal(needle, groups, tree, begin=bool(begin), end=bool(end))
    # The shortest match is enough to know that a line matches; the longest may take all of the line.
    flags = "m" if _LAZY.search(pattern) else "mU"
    single = _compiled(f"(?{flags}){among_lines}".encode(), options)._regexp.Match
    return compiled(
        tree, CounterOfExpression(single, groups, by_heads=not _LOOKS_AHEAD.search(pattern)).count
    )


def _counter_of_literal(
    needle: str, groups: Groups, tree: Node | None, *, begin: bool = False, end: bool = False
) -> Count:
    """Return a counter of the lines that contain a literal, or begin or end with it."""
    by_bytes = counter_of_literal(needle.encode(), groups, begin=begin, end=end)
    # For an empty literal the counter of bytes is as fast as PCRE2.
    return compiled(tree, by_bytes) if needle else by_bytes


def _options(ignore_case: bool) -> Any:
    options = re2.Options()
    options.never_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _MEMORY
    options.case_sensitive = not ignore_case
    return options


def _compiled(pattern: bytes, options: Any) -> Any:
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        problem = error.args[0] if error.args else error
        problem = problem.decode(errors="replace") if isinstance(problem, bytes) else problem
        raise CannotMatch(f"not a regular expression of RE2: {problem}") from error
