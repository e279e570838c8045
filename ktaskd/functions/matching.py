"""What a line is looked through for: a literal, or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import re2

from ktaskd.model.function import ArgValue

PATTERN_BYTES_MAX = 4096

_MEMORY = 8 << 20
"""RE2's limit for one expression and its automaton, and its default."""

_DENSE = 512
"""Bytes for each match, below which it is faster to look at each line by itself."""

_MANY = 32
"""Matches after which that is known."""

_OF_THE_TEXT = re.compile(r"\\[QC]|\(\?[a-zA-Z]*-")
"""A byte of any kind, quoted text, flags taken away: an expression that has such a thing, or
looks like it, is shown one line at a time."""

_PAIR = re.compile(r"\\(.)", re.DOTALL)
_ENDS = {"A": "^", "z": "$"}
"""The ends of the text are those of the line, which `^` and `$` also find among other lines."""


_ANYWHERE = re2._re2.RE2.Anchor.UNANCHORED

_Match = Callable[[Any, bytes, int, int], Sequence[tuple[int, int]]]
"""RE2's own: an anchor, a text, from where to where; the span of the match, (-1, -1) = none."""


class CannotMatch(ValueError):
    """A pattern cannot be looked for; the text says what, got and wanted."""


class Matcher(Protocol):
    """Finds lines in a text of whole lines. No method keeps the text."""

    overlap: int | None
    """Bytes that the ends of two pieces of a line must share so that nothing is missed;
    None where it has to see a line in one piece."""

    def lines(self, text: bytearray, stop: int) -> Iterator[tuple[int, int]]:
        """Lines of text[:stop] that match, ascending, each without its newline.

        The text ends with its last line, whose newline is not part of it.
        """

    def count(self, text: bytearray, stop: int) -> int:
        """How many lines those are."""

    def is_in(self, piece: bytearray, stop: int) -> bool:
        """Whether piece[:stop], which is part of one line, matches."""


def matcher_of(arg: Mapping[str, ArgValue]) -> Matcher:
    """By the arguments of text.search; raises CannotMatch."""
    return _matcher(str(arg["pattern"]), bool(arg["regex"]), bool(arg["ignore_case"]))


@lru_cache(maxsize=4)
def _matcher(pattern: str, regex: bool, ignore_case: bool) -> Matcher:
    encoded = pattern.encode()
    if len(encoded) > PATTERN_BYTES_MAX:
        raise CannotMatch(f"got {len(encoded)} bytes, wanted at most {PATTERN_BYTES_MAX}")
    if "\n" in pattern:
        raise CannotMatch("got one with a newline, which is in no line, wanted one without")
    if regex or ignore_case:
        return _Expression(encoded, regex, ignore_case)
    return _Literal(encoded)


def forget_patterns() -> None:
    """Keep none of those so far."""
    _matcher.cache_clear()
    re2.purge()


class _Literal:
    """Bytes as they are."""

    def __init__(self, needle: bytes) -> None:
        self._needle = needle
        self._runs = _match_of_runs(needle, _options(ignore_case=False), regex=False)
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
        needle, found, count = self._needle, text.find(self._needle, 0, stop), 0
        while found >= 0:
            count += 1
            after = text.find(b"\n", found, stop)
            if after < 0:
                break
            if count == _MANY and after < _MANY * _DENSE:
                rest = bytes(memoryview(text)[after + 1 : stop]) + b"\n"
                if self._runs is not None and _is_utf8(rest):
                    return count + _count_in_runs(self._runs, rest)
                return count + sum(needle in line for line in rest[:-1].split(b"\n"))
            found = text.find(needle, after + 1, stop)
        return count

    def is_in(self, piece: bytearray, stop: int) -> bool:
        return piece.find(self._needle, 0, stop) >= 0


class _Expression:
    """By RE2, whose time is linear in the text whatever the expression."""

    overlap: int | None = None

    def __init__(self, pattern: bytes, regex: bool, ignore_case: bool) -> None:
        options = _options(ignore_case)
        options.literal = not regex
        words = pattern.decode()
        self._by_line = regex and bool(_OF_THE_TEXT.search(words))
        self._search = _compiled(pattern, options).search
        if regex and not self._by_line:
            # Brackets around it would make a whole of two halves.
            pattern = b"(?m)" + _PAIR.sub(lambda pair: _ENDS.get(pair[1], pair[0]), words).encode()
            self._search = _compiled(pattern, options).search
        self._runs: _Match | None = None if self._by_line else _match_of_runs(pattern, options, regex)

    def lines(self, text: bytearray, stop: int) -> Iterator[tuple[int, int]]:
        content = bytes(memoryview(text)[:stop])
        if self._by_line:
            yield from self._each_line(content)
            return
        at = 0
        while at <= stop:
            match = self._search(content, at)
            if match is None:
                return
            found = match.start()
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
        count = 0
        for _, after in self.lines(text, stop):
            count += 1
            if count == _MANY and after < min(_MANY * _DENSE, stop):
                rest = bytes(memoryview(text)[after + 1 : stop]) + b"\n"
                if self._runs is not None and _is_utf8(rest):
                    return count + _count_in_runs(self._runs, rest)
        return count

    def is_in(self, piece: bytearray, stop: int) -> bool:
        return self._search(bytes(memoryview(piece)[:stop])) is not None


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
        said = error.args[0] if error.args else error
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise CannotMatch(f"no regular expression of RE2: {said}") from error


def _match_of_runs(pattern: bytes, options: Any, regex: bool) -> _Match | None:
    r"""Return what finds runs of lines that all match, so that one call of RE2 counts many.

    RE2 never matches a newline here, whatever the expression; only `\C`, behind the end of a
    line, takes one. None where the longer expression is more than RE2's memory holds.
    """
    options.literal = False
    inner = pattern if regex else b"(?m)" + re2.escape(pattern)
    flags, _, rest = inner.partition(b")")
    try:
        # RE2's own wrapper makes a Python object of each match, which takes three times as long.
        match: _Match = re2.compile(flags + b")(?:^.*(?:" + rest + b").*$\\C)+", options)._regexp.Match
    except re2.error:
        return None
    return match


def _count_in_runs(match: _Match, text: bytes) -> int:
    """Lines that match; the text ends with a newline."""
    count, at, size = 0, 0, len(text)
    while True:
        ((first, after),) = match(_ANYWHERE, text, at, size)
        if first < 0:
            return count
        count += text.count(b"\n", first, after)
        at = after


def _is_utf8(text: bytes) -> bool:
    """Whether RE2's `.` matches all of a line: it passes over no byte that is no UTF-8."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
