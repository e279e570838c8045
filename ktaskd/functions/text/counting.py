r"""Counts lines that match, in little more than the time to read their bytes.

One call from Python for each line would take 20 times as long as grep if lines are short. So one call
of RE2 finds the end of the next 64 lines that match, whatever lies between them:

    (?m)(?:\C*?(?:PATTERN)\C*?$\C){64}

`\C` is any byte, including a newline, which nothing else in the expression matches. It is lazy, so
each repeat takes the next line that matches.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from itertools import islice, repeat
from typing import Any

import numpy as np
import re2
from numpy.lib.stride_tricks import sliding_window_view

ANYWHERE, _HERE = re2._re2.RE2.Anchor.UNANCHORED, re2._re2.RE2.Anchor.ANCHOR_START

Count = Callable[[bytes], int]
"""Counts the lines of a text that match; the last byte of the text is a newline."""

Match = Callable[[Any, bytes, int, int], Sequence[tuple[int, int]]]
"""RE2's own function: takes an anchor, a text, start and end; returns the span of the match, or (-1, -1).
RE2's Python wrapper makes an object of each match, which takes three times as long."""

_TOGETHER = (64, 16, 4)
"""Numbers of lines that one call finds."""

_DENSE = 512
"""If there are more bytes than this per matching line, it is faster to find each line alone, since RE2
skips bytes with which no match begins. A line alone took 0.8 us, a byte in a group 1.8 ns."""

_FEW = 8
"""Number of lines found alone before their density is checked."""

_PROGRAM_MAX = 4000
"""Limit of a group's instructions in RE2."""

_SLOW_NS, _SLOW_FROM_NS = 25, 10_000_000
"""Time per byte, and least time in all, above which groups are given up: the automaton of a group has
outgrown RE2's memory."""

_STRETCH = 64 << 10
"""Bytes of text after which the speed of groups is checked."""

_HEAD_LEAST, _HEADS = 16, 2
"""Shortest head of a line that is searched alone, and how many heads long a line must be for that."""

_WINDOW = 16 << 10
_PIECE_NS, _BYTE_NS = 150, 2
"""Time for each piece of a text that is split at a literal, and for each byte of groups with its lines."""

_NEWLINE, _NEWLINE_BYTE = b"\n", 10


class Groups:
    """Finds several matching lines in one call of RE2.

    Args:
        pattern: an expression for many lines that matches no newline.
    """

    def __init__(self, pattern: bytes, options: Any) -> None:
        """Keep the pattern; groups are compiled at the first use."""
        self._pattern = pattern
        self._options = options
        self._groups: list[tuple[int, Match]] | None = None
        self._spent_ns = self._seen = 0

    def count(self, text: bytes, at: int) -> tuple[int, int]:
        """Count matching lines from `at` on, while they are dense; returns the count and the end."""
        begin_ns, count, end = time.thread_time_ns(), 0, at + _STRETCH
        for together, match in self._ready():
            while at < end:
                stop = min(len(text), at + together * _DENSE)
                ((first, after),) = match(_HERE, text, at, stop)
                if first < 0:
                    self._seen += stop - at
                    break
                self._seen += after - at
                count, at = count + together, after
        self._spent_ns += time.thread_time_ns() - begin_ns
        if self._spent_ns > _SLOW_FROM_NS + _SLOW_NS * self._seen:
            self._groups = []
        return count, at

    def count_heads(self, text: bytes, at: int, width: int) -> tuple[int, int]:
        """Count lines from `at` on while all match within `width` bytes; returns the count and the end.

        Only for a pattern whose match does not depend on the bytes after it. RE2 gets only these bytes
        of each line; the rest is skipped.
        """
        part = np.frombuffer(text, np.uint8, offset=at)
        ends = np.flatnonzero(part == _NEWLINE_BYTE) + 1
        starts = np.concatenate(([0], ends[:-1]))
        if int((ends - starts).min()) <= width:
            return 0, at
        heads = sliding_window_view(part, width + 1)[starts]
        heads[:, width] = _NEWLINE_BYTE
        cut, line, count = heads.tobytes(), width + 1, 0
        for together, match in self._ready():
            while count + together <= len(ends):
                if match(_HERE, cut, count * line, (count + together) * line)[0][0] < 0:
                    break
                count += together
        return count, at + int(ends[count - 1]) if count else at

    def _ready(self) -> list[tuple[int, Match]]:
        """The groups that are not too large for RE2."""
        if self._groups is None:
            found = ((together, self._group(together)) for together in _TOGETHER)
            self._groups = [(together, match) for together, match in found if match is not None]
        return self._groups

    def _group(self, together: int) -> Match | None:
        words = rb"(?m)(?:\C*?(?:" + self._pattern + rb")\C*?$\C){%d}" % together
        try:
            compiled = re2.compile(words, self._options)
        except re2.error:
            return None
        return compiled._regexp.Match if compiled.programsize <= _PROGRAM_MAX else None


class CounterOfExpression:
    """Counts the lines that an expression matches: one by one while they are sparse, otherwise in groups.

    Args:
        single: finds one match.
        by_heads: a match does not depend on the bytes after it.
    """

    def __init__(self, single: Match, groups: Groups, *, by_heads: bool) -> None:
        """Keep them."""
        self._single = single
        self._groups = groups
        self._by_heads = by_heads
        self._width = 0

    def count(self, text: bytes) -> int:
        """Count the lines of a text, as Count."""
        at, count, by_heads = 0, 0, self._by_heads
        while at < len(text):
            more, at = self._one_by_one(text, at)
            count += more
            if by_heads and at < len(text):
                more, at = self._heads(text, at)
                count, by_heads = count + more, more > 0
            if not by_heads and at < len(text):
                more, at = self._groups.count(text, at)
                count += more
        return count

    def _heads(self, text: bytes, at: int) -> tuple[int, int]:
        """Count long lines from `at` on that match near their begin, if the last ones did."""
        width = max(self._width, _HEAD_LEAST)
        if width * _HEADS > text.find(_NEWLINE, at) - at:
            return 0, at
        return self._groups.count_heads(text, at, width)

    def _one_by_one(self, text: bytes, at: int) -> tuple[int, int]:
        """Count matching lines from `at` on, until they are dense; returns the count and the end."""
        match, find, end, begin, count, width = self._single, text.find, len(text), at, 0, 0
        while True:
            ((first, after),) = match(ANYWHERE, text, at, end)
            if not 0 <= first < end:
                return count, end
            width = max(width, after - at)
            count, at = count + 1, find(_NEWLINE, after) + 1
            if count % _FEW == 0:
                if at - begin < _FEW * _DENSE:
                    self._width = width
                    return count, at
                begin, width = at, 0


class CounterOfLiteral:
    """Counts the lines with a literal, by Python's search in bytes if that is faster than RE2.

    Args:
        groups: groups for the same literal.
    """

    def __init__(self, needle: bytes, groups: Groups) -> None:
        """Keep them."""
        self._needle = needle
        self._groups = groups

    def count(self, text: bytes) -> int:
        """Count the lines of a text, as Count."""
        at, count = 0, 0
        while at < len(text):
            more, at = self._one_by_one(text, at)
            count += more
            more, at = self._dense(text, at)
            count += more
        return count

    def _one_by_one(self, text: bytes, at: int) -> tuple[int, int]:
        """Count lines with the literal from `at` on, until they are dense; returns the count and the end."""
        needle, find, begin, count = self._needle, text.find, at, 0
        while True:
            found = find(needle, at)
            if found < 0:
                return count, len(text)
            count, at = count + 1, find(_NEWLINE, found) + 1
            if count % _FEW == 0:
                if at - begin < _FEW * _DENSE:
                    return count, at
                begin = at

    def _dense(self, text: bytes, at: int) -> tuple[int, int]:
        """Count lines from `at` on in the faster of two ways; returns the count and the end."""
        end = text.find(_NEWLINE, at + _WINDOW) + 1 or len(text)
        if text.count(self._needle, at, end) * _PIECE_NS > (end - at) * _BYTE_NS:
            return self._groups.count(text, at)
        pieces = text[at:end].split(self._needle)
        # Within a line, only the piece after the last occurrence has a newline.
        return sum(map(operator.contains, islice(pieces, 1, None), repeat(_NEWLINE_BYTE))), end


def counter_of_literal(needle: bytes, groups: Groups, *, begin: bool = False, end: bool = False) -> Count:
    """Return a counter of the lines with a literal.

    Args:
        groups: groups for the same literal.
        begin, end: lines must begin or end with the literal; both only for an empty one.
    """
    if not needle:
        return _count_empty if begin and end else lambda text: text.count(_NEWLINE)
    # `in` is several times as fast if the literal does not occur: it searches for the first byte alone.
    if begin:
        return lambda text: text.count(_NEWLINE + needle) + text.startswith(needle) if needle in text else 0
    if end:
        return lambda text: text.count(needle + _NEWLINE) if needle in text else 0
    return CounterOfLiteral(needle, groups).count


def _count_empty(text: bytes) -> int:
    """Count the empty lines."""
    count = int(text.startswith(_NEWLINE))
    if _NEWLINE * 2 not in text:
        return count
    for at in range(0, len(text), _STRETCH):
        # Work in pieces that stay in the cache.
        part = np.frombuffer(text, np.uint8, min(_STRETCH + 1, len(text) - at), at)
        ends = part == _NEWLINE_BYTE
        count += int(np.count_nonzero(ends[1:] & ends[:-1]))
    return count
