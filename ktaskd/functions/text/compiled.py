"""Counts lines by PCRE2, for patterns with which it surely finds what RE2 finds, in linear time."""

from __future__ import annotations

import time

from ktaskd.functions.text.counting import Count
from ktaskd.functions.text.pcre import Program, program_of
from ktaskd.functions.text.rewriting import rewritten
from ktaskd.functions.text.trees import Node

_STRETCH = 64 << 10
"""Bytes that one call counts, to the end of the last line."""

_SHORT = 16 << 10
"""The same where what a line takes may grow with the square of its length; longer lines are left to RE2."""

_SLOW_NS, _SLOW_FROM_NS = 50, 10_000_000
"""For each byte, after so long: the text is one for which the pattern has many ways to match."""

_NEWLINE = b"\n"


class CompiledCounter:
    """Lines that match, by PCRE2.

    Args:
        ascii_only, quadratic: as in Rewritten.
        otherwise: counts by RE2.
    """

    def __init__(self, program: Program, otherwise: Count, *, ascii_only: bool, quadratic: bool) -> None:
        """Hold them."""
        self._program = program
        self._otherwise = otherwise
        self._ascii_only = ascii_only
        self._stretch = _SHORT if quadratic else _STRETCH
        self._longest = 2 * _SHORT if quadratic else None
        self._spent_ns = self._seen = 0

    def count(self, text: bytes) -> int:
        """As Count."""
        if self._is_slow() or (self._ascii_only and not text.isascii()):
            return self._otherwise(text)
        at = count = 0
        while at < len(text):
            end = text.find(_NEWLINE, at + self._stretch) + 1 or len(text)
            count += self._count(text, at, end)
            at = end
        return count

    def _is_slow(self) -> bool:
        return self._spent_ns > _SLOW_FROM_NS + _SLOW_NS * self._seen

    def _count(self, text: bytes, start: int, end: int) -> int:
        """Count in one stretch of lines."""
        if self._is_slow() or (self._longest is not None and end - start > self._longest):
            return self._otherwise(text[start:end])
        begin_ns = time.thread_time_ns()
        found = self._program.count(text, start, end)
        self._spent_ns += time.thread_time_ns() - begin_ns
        self._seen += end - start
        return found if found >= 0 else self._otherwise(text[start:end])


def compiled(tree: Node | None, otherwise: Count) -> Count:
    """Return what counts the lines that match, by PCRE2 where that is possible.

    Args:
        tree: of the pattern; None where it has none.
        otherwise: counts the same.
    """
    found = None if tree is None else rewritten(tree)
    program = None if found is None else program_of(found.pattern)
    if found is None or program is None:
        return otherwise
    return CompiledCounter(program, otherwise, ascii_only=found.ascii_only, quadratic=found.quadratic).count
