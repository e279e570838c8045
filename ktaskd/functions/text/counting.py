r"""Counts lines that match, in about the time that looking at their bytes takes.

A call from Python for each line would take 20 times as long as grep where lines are short. So one
call of RE2 finds the end of the next 64 lines that match, whatever lies between them:

    (?m)(?:\C*?(?:PATTERN)\C*?$\C){64}

`\C` is any byte, also a newline, which RE2 matches with nothing else here. It skips as little as
it can, so the line that it takes is always the next one that matches.
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

_ANYWHERE, _HERE = re2._re2.RE2.Anchor.UNANCHORED, re2._re2.RE2.Anchor.ANCHOR_START

Count = Callable[[bytes], int]
"""How many lines of a text match, whose last byte is the newline of its last line."""

Match = Callable[[Any, bytes, int, int], Sequence[tuple[int, int]]]
"""RE2's own: an anchor, a text, from where to where; the span of the match, (-1, -1) = none.
RE2's wrapper makes a Python object of each match, which takes three times as long."""

_TOGETHER = (64, 16, 4)
"""Lines that one call finds."""

_DENSE = 512
"""Bytes for each line that matches, from which on it is faster to find each by itself, since RE2
passes over bytes with which no match begins: it took 0.8 us for each, and 1.8 ns for each byte of groups."""

_FEW = 8
"""Lines that are found by themselves before that is looked at."""

_PROGRAM_MAX = 4000
"""Instructions of a group in RE2."""

_SLOW_NS, _SLOW_FROM_NS = 25, 10_000_000
"""For each byte, after so long: the automaton of a group has outgrown RE2's memory."""

_STRETCH = 64 << 10
"""Of a text, after which that is looked at."""

_HEAD_LEAST, _HEADS = 16, 2
"""Bytes of a line that are looked at alone where lines match in them; how many times as long a line is."""

_WINDOW = 16 << 10
_PIECE_NS, _BYTE_NS = 150, 2
"""What a piece of a text that is split at a literal takes, and a byte of groups, some of it for its lines."""

_NEWLINE, _NEWLINE_BYTE = b"\n", 10


class Groups:
    """Finds several lines that match in one call of RE2.

    Args:
        pattern: for many lines; it matches no newline.
    """

    def __init__(self, pattern: bytes, options: Any) -> None:
        """Keep it; groups are compiled once they are wanted."""
        self._pattern = pattern
        self._options = options
        self._groups: list[tuple[int, Match]] | None = None
        self._spent_ns = self._seen = 0

    def count(self, text: bytes, at: int) -> tuple[int, int]:
        """Lines that match from `at` on, and up to where they were counted: a while, if they are dense."""
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
        """Lines from `at` on that all match within `width` bytes, and up to where they were counted.

        Only for a pattern whose match does not depend on what follows it. RE2 sees no more than these
        bytes of each line, and the rest of it is passed over.
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
        """The groups, without those that are too large for RE2."""
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
    """Lines that an expression matches: one by one while they are sparse, else in groups.

    Args:
        single: finds one match.
        by_heads: whether a match depends on nothing that follows it.
    """

    def __init__(self, single: Match, groups: Groups, *, by_heads: bool) -> None:
        """Hold them."""
        self._single = single
        self._groups = groups
        self._by_heads = by_heads
        self._width = 0

    def count(self, text: bytes) -> int:
        """As Count."""
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
        """Lines from `at` on that match near their beginning, if the last ones did and are long."""
        width = max(self._width, _HEAD_LEAST)
        if width * _HEADS > text.find(_NEWLINE, at) - at:
            return 0, at
        return self._groups.count_heads(text, at, width)

    def _one_by_one(self, text: bytes, at: int) -> tuple[int, int]:
        """Lines that match from `at` on, and up to where they were counted: until they are dense."""
        match, find, end, begin, count, width = self._single, text.find, len(text), at, 0, 0
        while True:
            ((first, after),) = match(_ANYWHERE, text, at, end)
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
    """Lines that have a literal, by the searches of bytes where that is faster than RE2.

    Args:
        groups: for the same literal.
    """

    def __init__(self, needle: bytes, groups: Groups) -> None:
        """Hold them."""
        self._needle = needle
        self._groups = groups

    def count(self, text: bytes) -> int:
        """As Count."""
        at, count = 0, 0
        while at < len(text):
            more, at = self._one_by_one(text, at)
            count += more
            more, at = self._dense(text, at)
            count += more
        return count

    def _one_by_one(self, text: bytes, at: int) -> tuple[int, int]:
        """Lines from `at` on, and up to where they were counted: until they are dense."""
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
        """Lines from `at` on, by what takes less time, and up to where they were counted."""
        end = text.find(_NEWLINE, at + _WINDOW) + 1 or len(text)
        if text.count(self._needle, at, end) * _PIECE_NS > (end - at) * _BYTE_NS:
            return self._groups.count(text, at)
        pieces = text[at:end].split(self._needle)
        # A line has it as often as it has; only behind the last of them follows a newline.
        return sum(map(operator.contains, islice(pieces, 1, None), repeat(_NEWLINE_BYTE))), end


def counter_of_literal(needle: bytes, groups: Groups, *, begin: bool = False, end: bool = False) -> Count:
    """Return what counts the lines that have a literal.

    Args:
        groups: for the same literal.
        begin, end: a line has to begin with it, or to end with it; both only where it is empty.
    """
    if not needle:
        return _count_empty if begin and end else lambda text: text.count(_NEWLINE)
    # Where it is nowhere, to search for its first byte alone is several times as fast.
    if begin:
        return lambda text: text.count(_NEWLINE + needle) + text.startswith(needle) if needle in text else 0
    if end:
        return lambda text: text.count(needle + _NEWLINE) if needle in text else 0
    return CounterOfLiteral(needle, groups).count


def _count_empty(text: bytes) -> int:
    """Lines without a byte."""
    ends = np.frombuffer(text, np.uint8) == _NEWLINE_BYTE
    return int(np.count_nonzero(ends[1:] & ends[:-1])) + text.startswith(_NEWLINE)
