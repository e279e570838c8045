"""Counts lines with PCRE2, for patterns where it surely finds the same as RE2, in linear time."""

from __future__ import annotations

import time

from ktaskd.functions.text.counting import Count
from ktaskd.functions.text.pcre import Program, program_of
from ktaskd.functions.text.rewriting import rewritten
from ktaskd.functions.text.trees import Node

_STRETCH = 64 << 10
"""Bytes that one call searches, extended to the end of the last line."""

SHORT = 16 << 10
"""The same if the time for a line may grow with the square of its length. RE2 searches longer lines."""

SLOW_NS, SLOW_FROM_NS = 50, 10_000_000
"""Time per byte, and least time in all, above which PCRE2 is given up: the pattern has too many ways to
match in this text."""

_NEWLINE = b"\n"


class CompiledCounter:
    """Counts the lines that match with PCRE2.

    Args:
        otherwise: counts with RE2.
        ascii_only, quadratic: as in Rewritten.
    """

    def __init__(self, program: Program, otherwise: Count, *, ascii_only: bool, quadratic: bool) -> None:
        """Keep them."""
        self._program = program
        self._otherwise = otherwise
        self._ascii_only = ascii_only
        self._stretch = SHORT if quadratic else _STRETCH
        self._longest = 2 * SHORT if quadratic else None
        self._spent_ns = self._seen = 0

    def count(self, text: bytes) -> int:
        """Count the lines of a text, as Count."""
        if self._is_slow() or (self._ascii_only and not text.isascii()):
            return self._otherwise(text)
        at = count = 0
        while at < len(text):
            end = text.find(_NEWLINE, at + self._stretch) + 1 or len(text)
            count += self._count(text, at, end)
            at = end
        return count

    def _is_slow(self) -> bool:
        return self._spent_ns > SLOW_FROM_NS + SLOW_NS * self._seen

    def _count(self, text: bytes, start: int, end: int) -> int:
        """Count the lines of one stretch."""
        if self._is_slow() or (self._longest is not None and end - start > self._longest):
            return self._otherwise(text[start:end])
        begin_ns = time.thread_time_ns()
        found = self._program.count(text, start, end)
        self._spent_ns += time.thread_time_ns() - begin_ns
        self._seen += end - start
        return found if found >= 0 else self._otherwise(text[start:end])


def compiled(tree: Node | None, otherwise: Count) -> Count:
    """Return a counter of the lines that match, which uses PCRE2 if possible.

    Args:
        tree: the pattern's tree; None = it has none.
        otherwise: counts the same lines with RE2.
    """
    found = None if tree is None else rewritten(tree)
    program = None if found is None else program_of(found.pattern)
    if found is None or program is None:
        return otherwise
    return CompiledCounter(program, otherwise, ascii_only=found.ascii_only, quadratic=found.quadratic).count
