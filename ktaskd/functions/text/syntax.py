r"""Parses the part of RE2's syntax that means the same to every engine, into a tree of sets of bytes.

Other patterns have no tree and are left to RE2: those with flags, names, `\B`, Unicode classes, repeats of
repeats, and anything rare.

Source: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re

from ktaskd.functions.text.trees import ANY, NEWLINE, Begin, Bytes, Choice, Edge, End, Node, Repeat, Sequence

_LOWER, _UPPER = frozenset(b"abcdefghijklmnopqrstuvwxyz"), frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGIT, _SPACE = frozenset(b"0123456789"), frozenset(b"\t\f\r ")
_ALPHA = _LOWER | _UPPER
_WORD = _ALPHA | _DIGIT | {ord("_")}
_PERL = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_GRAPH = frozenset(range(0x21, 0x7F))
_POSIX = {
    "alnum": _ALPHA | _DIGIT,
    "alpha": _ALPHA,
    "ascii": ANY,
    "blank": frozenset(b"\t "),
    "cntrl": frozenset(range(0x20)) | {0x7F},
    "digit": _DIGIT,
    "graph": _GRAPH,
    "lower": _LOWER,
    "print": _GRAPH | {ord(" ")},
    "punct": _GRAPH - _ALPHA - _DIGIT,
    "space": _SPACE | {ord("\v")},
    "upper": _UPPER,
    "word": _WORD,
    "xdigit": _DIGIT | frozenset(b"abcdefABCDEF"),
}
"""The bytes of each class; a newline that belongs to some does not matter within a line."""

_POSIX_CLASS = re.compile(r":(\^?)([a-z]+):\]")
_SPECIAL = frozenset("\\.+*?()|[]{}^$")
_REPEAT = re.compile(r"(?:([*+?])|\{(\d{1,4})(?:(,)(\d{0,4}))?\})\??")
_SIMPLE = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_FOLDED_BEYOND_ASCII = frozenset(b"kKsS")
"""If case is ignored, the Kelvin sign equals k, and the long s equals s."""

_IGNORE_CASE = "(?i)"
_DEPTH_MAX = 50


_SIGNS: dict[str, Node] = {"^": Begin(), "$": End(), ".": Bytes(ANY, wide=True)}


class _Outside(Exception):
    """The pattern is not in this part of the syntax."""


def tree_of(pattern: str, *, ignore_case: bool) -> Node | None:
    """Parse a pattern that RE2 has accepted; None if it is outside of this part of the syntax."""
    words = pattern.removeprefix(_IGNORE_CASE)
    try:
        return _Parser(words, ignore_case or words != pattern).whole()
    except _Outside:
        return None


def tree_of_literal(literal: str, *, ignore_case: bool) -> Node | None:
    """The tree of a literal; None if case is ignored and the literal is not ASCII."""
    if ignore_case and not literal.isascii():
        return None
    return Sequence(tuple(_one(byte, ignore_case) for byte in literal.encode()))


def _one(byte: int, ignore_case: bool) -> Bytes:
    values = frozenset({byte})
    return _folded(values) if ignore_case else Bytes(values)


def _folded(values: frozenset[int]) -> Bytes:
    text = bytes(values)
    both = frozenset(text.lower() + text.upper())
    return Bytes(both, wide=bool(both & _FOLDED_BEYOND_ASCII))


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str, ignore_case: bool) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._ignore_case = ignore_case

    def whole(self) -> Node:
        node = self._choice()
        if self._at < len(self._text):
            raise _Outside
        return node

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        taken = self._peek()
        if not taken:
            raise _Outside
        self._at += 1
        return taken

    def _takes(self, words: str) -> bool:
        found = self._text.startswith(words, self._at)
        self._at += len(words) if found else 0
        return found

    def _choice(self) -> Node:
        parts = [self._sequence()]
        while self._takes("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, node: Node) -> Node:
        found = _REPEAT.match(self._text, self._at)
        if found is None:
            return node
        self._at = found.end()
        if isinstance(node, Begin | Edge | End) or self._peek() in ("*", "+", "?", "{"):
            raise _Outside
        simple, least, more, most = found.groups()
        if simple:
            return Repeat(node, *_SIMPLE[simple])
        return Repeat(node, int(least), (int(most) if most else None) if more else int(least))

    def _atom(self) -> Node:
        taken = self._take()
        if taken == "(":
            return self._group()
        if taken == "[":
            return self._class()
        if taken == "\\":
            return self._escaped()
        if taken in "^$.":
            return _SIGNS[taken]
        if taken in _SPECIAL:
            raise _Outside
        return self._literal(taken)

    def _group(self) -> Node:
        if not self._takes("?:") and self._peek() == "?":
            raise _Outside
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise _Outside
        node = self._choice()
        self._depth -= 1
        if not self._takes(")"):
            raise _Outside
        return node

    def _literal(self, taken: str) -> Node:
        if taken.isascii():
            return _one(ord(taken), self._ignore_case)
        node = tree_of_literal(taken, ignore_case=self._ignore_case)
        if node is None:
            raise _Outside
        return node

    def _escaped(self) -> Node:
        taken = self._take()
        if taken in "Az":
            return Begin() if taken == "A" else End()
        if taken == "b":
            return Edge()
        if taken.lower() in _PERL:
            return self._perl(taken)
        return self._literal(_punctuation(taken))

    def _perl(self, letter: str) -> Bytes:
        values = _PERL[letter.lower()]
        if letter.isupper():
            return Bytes(ANY - values, wide=True)
        return Bytes(values, wide=self._ignore_case and bool(values & _FOLDED_BEYOND_ASCII))

    def _class(self) -> Node:
        negated = self._takes("^")
        values: frozenset[int] = frozenset()
        wide = negated
        while not self._takes("]"):
            found, more = self._item(first=not values)
            values, wide = values | found, wide or more
        if not values:
            raise _Outside
        if self._ignore_case:
            folded = _folded(values)
            values, wide = folded.values, wide or folded.wide
        # RE2 never matches a newline here.
        values = (ANY - values if negated else values) - {NEWLINE}
        return Bytes(values, wide)

    def _item(self, *, first: bool) -> tuple[frozenset[int], bool]:
        """Return one character, range or Perl class inside a class, and whether it is wide."""
        taken = self._take()
        if taken == "\\" and self._peek().lower() in _PERL:
            letter = self._take()
            values = _PERL[letter.lower()]
            if self._peek() == "-":
                raise _Outside
            return (values, False) if letter in _PERL else (ANY - values, True)
        if taken == "[" and self._peek() == ":":
            return self._posix()
        low = self._member(taken, first=first)
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] == "]":
            return frozenset({low}), False
        self._at += 1
        high = self._member(self._take(), first=False)
        if high < low:
            raise _Outside
        return frozenset(range(low, high + 1)), False

    def _posix(self) -> tuple[frozenset[int], bool]:
        """Return the bytes of a class such as `[:alpha:]`, and whether it is wide."""
        found = _POSIX_CLASS.match(self._text, self._at)
        if found is None or found[2] not in _POSIX:
            raise _Outside
        self._at = found.end()
        values = _POSIX[found[2]]
        return (ANY - values, True) if found[1] else (values, False)

    def _member(self, taken: str, *, first: bool) -> int:
        if taken == "\\":
            taken = _punctuation(self._take())
        elif taken in "[]" or (taken == "-" and not first and self._peek() != "]"):
            raise _Outside
        if not taken.isascii():
            raise _Outside
        return ord(taken)


def _punctuation(taken: str) -> str:
    """Check that a character stands for itself after a backslash, and return it."""
    if not taken.isascii() or taken.isalnum() or not taken.isprintable() or taken in "_ ":
        raise _Outside
    return taken
