"""Finds mistakes in an RE2 regular expression from its text alone. Pure.

The daemon does not load RE2, so intake looks for common mistakes: brackets that do not match, a
repetition of nothing, and look-around and back references, which RE2 does not have. RE2 in the
worker may still refuse an expression that passes.

Source: doc/syntax.txt and re2/parse.cc of google/re2
"""

from __future__ import annotations

import re

_REPEAT = re.compile(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*)?)?\}")
_REPEATS_MAX = 1000
_FLAGS = re.compile(r"\(\?[imsU]*(?:-[imsU]+)?([:)])")
_NAMED = re.compile(r"\(\?P?<[^>]*>")
_NO_ESCAPES = frozenset("123456789ceghijklmoquyEFGHIJKLMNORTUVXYZ")
_HEX = re.compile(r"\\x(?:[0-9A-Fa-f]{2}|\{[0-9A-Fa-f]+\})")
_CLASSES = frozenset("dDsSwWpP")

_NOTHING, _ITEM, _REPEATED = range(3)


class ExpressionInvalid(ValueError):
    """RE2 would refuse the expression; the text says why."""


def check_expression(pattern: str) -> None:
    """Raise ExpressionInvalid if RE2 is certain to refuse `pattern`."""
    _Scan(pattern).run()


def _descends(span: str) -> bool:
    """Whether the range A-B of two plain characters ends before it begins."""
    return len(span) == 3 and span[0] > span[2]


class _Scan:
    """One pass over an expression, from its first character to its last."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._before = _NOTHING
        """The kind of item that a repetition at the current position would repeat."""
        self._open = 0

    def run(self) -> None:
        """Scan the whole expression."""
        while self._at < len(self._pattern):
            self._step(self._pattern[self._at])
        if self._open:
            raise ExpressionInvalid("missing ): there are more opening brackets than closing ones")

    def _step(self, char: str) -> None:
        match = _REPEAT.match(self._pattern, self._at) if char == "{" else None
        if char in "*+?":
            self._repeat(char)
        elif match is not None:
            self._counted(match)
        elif char == "(":
            self._group()
        elif char == ")":
            self._close()
        elif char == "[":
            self._class()
        elif char == "\\":
            self._escape()
        else:
            self._item(1, _NOTHING if char == "|" else _ITEM)

    def _item(self, length: int, kind: int = _ITEM) -> None:
        self._at, self._before = self._at + length, kind

    def _repeat(self, operator: str) -> None:
        if self._before == _NOTHING:
            raise ExpressionInvalid(f"missing argument to repetition operator: {operator}")
        if self._before == _REPEATED:
            raise ExpressionInvalid(f"bad repetition operator: {operator} follows another repetition")
        self._item(len(operator), _REPEATED)
        if self._pattern.startswith("?", self._at):
            self._at += 1

    def _counted(self, match: re.Match[str]) -> None:
        least, most = int(match[1]), int(match[3] or match[1])
        if max(least, most) > _REPEATS_MAX or most < least:
            raise ExpressionInvalid(f"bad repetition operator: {match[0]} (at most {_REPEATS_MAX})")
        self._repeat(match[0])

    def _group(self) -> None:
        """Skip the head of a group, or flags in brackets, which are not an item."""
        if not self._pattern.startswith("(?", self._at):
            self._open += 1
            self._item(1, _NOTHING)
            return
        flags = _FLAGS.match(self._pattern, self._at)
        named = None if self._pattern.startswith(("(?<=", "(?<!"), self._at) else _NAMED
        head = flags or (named and named.match(self._pattern, self._at))
        if head is None:
            got = self._pattern[self._at : self._at + 4]
            raise ExpressionInvalid(f"invalid perl operator: {got} (RE2 has no look-around)")
        if flags is not None and flags[1] == ")":
            self._item(len(flags[0]), self._before and _ITEM)
            return
        self._open += 1
        self._item(len(head[0]), _NOTHING)

    def _close(self) -> None:
        if not self._open:
            raise ExpressionInvalid("unexpected ): nothing is open there")
        self._open -= 1
        self._item(1)

    def _class(self) -> None:
        """Skip a class [...], in which a first ] is an ordinary character."""
        start = self._at
        self._at += 2 if self._pattern.startswith("[^", start) else 1
        first = True
        while first or not self._pattern.startswith("]", self._at):
            if self._at >= len(self._pattern):
                raise ExpressionInvalid(f"missing ]: {self._pattern[start : start + 20]}")
            self._member()
            first = False
        self._item(1)

    def _member(self) -> None:
        """Skip one character, range, escape or [:name:] inside a class."""
        start = self._at
        named = self._pattern.find(":]", start + 2) if self._pattern.startswith("[:", start) else -1
        if named >= 0:
            self._at = named + 2
            return
        if self._pattern[start] == "\\":
            self._escape()
            if self._pattern[start + 1] in _CLASSES:
                return
        else:
            self._at += 1
        upper = self._pattern[self._at + 1 : self._at + 2]
        if self._pattern.startswith("-", self._at) and upper not in ("", "]", "\\"):
            self._at += 2
            if _descends(self._pattern[start : self._at]):
                raise ExpressionInvalid(f"invalid character class range: {self._pattern[start : self._at]}")

    def _escape(self) -> None:
        kind = self._pattern[self._at + 1 : self._at + 2]
        if not kind:
            raise ExpressionInvalid("trailing \\: it escapes nothing")
        if kind == "x" and not _HEX.match(self._pattern, self._at):
            raise ExpressionInvalid(f"invalid escape sequence: {self._pattern[self._at : self._at + 4]}")
        octal = kind in "1234567" and self._pattern[self._at + 2 : self._at + 3] in tuple("01234567")
        if kind in _NO_ESCAPES and not octal:
            raise ExpressionInvalid(f"invalid escape sequence: \\{kind} (RE2 has no back references)")
        if kind == "Q":
            end = self._pattern.find("\\E", self._at + 2)
            self._item((end + 2 if end >= 0 else len(self._pattern)) - self._at)
        elif kind in "pPx" and self._pattern.startswith("{", self._at + 2):
            self._braced(2)
        else:
            self._item(2)

    def _braced(self, offset: int) -> None:
        end = self._pattern.find("}", self._at + offset)
        if end < 0:
            raise ExpressionInvalid(f"missing }}: {self._pattern[self._at : self._at + 20]}")
        self._item(end + 1 - self._at)
