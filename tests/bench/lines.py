"""Texts with lines of every length, of which any part matches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_WORDS = b"the quick frown oxen jump over lazy dogs ab fob barn rot err "
"""Text with the first letters of all patterns, which matches only `.`."""

VERY_LONG = 1 << 20
LENGTHS = (0, 3, 20, 80, 500, VERY_LONG)
EVERY = (0, 1000, 100, 2, 1)
"""One line in this many matches; 0 = none."""

_EVERY_OF_VERY_LONG = (0, 2, 1)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern of the grid.

    Args:
        grep: the same for grep, if its syntax differs.
        core: bytes that match anywhere in a line; empty if `good` is used.
        good: a line that matches, if there is no core; `{}` stands for its filling.
    """

    text: str
    core: bytes = b""
    good: bytes = b""
    grep: str = ""
    ignore_case: bool = False

    def matching(self, length: int, *, late: bool, filler: bytes) -> bytes | None:
        """A line that matches; None if no line of that length does."""
        if not self.core:
            return self._whole(length, filler)
        if length < len(self.core):
            return None
        before = length - len(self.core) if late else min(2, length - len(self.core))
        return (filler[:before] + self.core + filler)[:length]

    def _whole(self, length: int, filler: bytes) -> bytes | None:
        if self.text == "^$":
            return b""
        if not length:
            return None
        begin, _, end = self.good.partition(b"{}")
        return begin + filler[: length - len(begin) - len(end)] + end

    def other(self, length: int, *, filler: bytes) -> bytes:
        """A line that does not match; of another length if all lines of this one match."""
        if self.text == ".":
            return b""
        if self.text == "^a":
            return b"z" * min(1, length) + filler[1:length]
        if self.text == "^$":
            return filler[: max(length, 1)]
        # It would have both letters of `a.*b`.
        return filler[:length].replace(b"b", b"c") if self.text == "a.*b" else filler[:length]


PATTERNS = (
    Pattern("a7", core=b"a7"),
    Pattern("[0-9]", core=b"7"),
    Pattern("a7|b7", core=b"b7"),
    Pattern("^a", good=b"a{}"),
    Pattern("7$", good=b"{}7"),
    Pattern("^$"),
    Pattern(".", good=b"{}"),
    Pattern("a.*b", core=b"a-b"),
    Pattern(r"\d+", core=b"73", grep="[0-9]+"),
    Pattern("(foo|bar)baz", core=b"barbaz"),
    Pattern("error", core=b"ErRoR", ignore_case=True),
    Pattern("[0-9]x*$", good=b"{}7"),
    Pattern("[0-9]+:[0-9]+", core=b"12:34"),
    Pattern(r"\bb7\b", core=b" b7 "),
    Pattern("7([a-z]+,)*[0-9]", core=b"7z,zz,8"),
    Pattern("[[:digit:]][[:upper:]]", core=b"7Z"),
    Pattern("(7[a-z])+[A-Z]", core=b"7b7cZ"),
)


@dataclass(frozen=True, slots=True)
class Text:
    """One text of the grid: one line in `every` matches, near its end or near its beginning."""

    pattern: Pattern
    length: int
    every: int
    late: bool
    words: bool

    def __str__(self) -> str:
        """As in "lines of 80 bytes of words, one in 100 matches late"."""
        share = f"one in {self.every} matches" if self.every else "none matches"
        place = " late" if self.late and self.every else ""
        return f"lines of {self.length} bytes of {'words' if self.words else 'x'}, {share}{place}"

    def block(self) -> bytes | None:
        """The lines of one period; None if no line can match that should."""
        filler = (_WORDS if self.words else b"x") * self.length
        filler = filler[: max(self.length, 1)]
        good = self.pattern.matching(self.length, late=self.late, filler=filler)
        if good is None and self.every:
            return None
        other = self.pattern.other(self.length, filler=filler) + b"\n"
        return other if not self.every else (good or b"") + b"\n" + other * (self.every - 1)


def texts(pattern: Pattern) -> Iterator[Text]:
    """The grid of one pattern."""
    for length in LENGTHS:
        for every in _EVERY_OF_VERY_LONG if length == VERY_LONG else EVERY:
            for late in (False, True) if pattern.core and every and length else (False,):
                for words in (False, True) if length else (False,):
                    yield Text(pattern, length, every, late, words)
