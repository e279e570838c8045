"""Tells which lines match with PCRE2, where almost all the time goes to its compiled code and numpy."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from ktaskd.functions.text.compiled import SHORT, SLOW_FROM_NS, SLOW_NS
from ktaskd.functions.text.pcre import Program, program_of
from ktaskd.functions.text.rewriting import rewritten
from ktaskd.functions.text.trees import Node

_MARK = b"\0"
_NEWLINE = b"\n"


class Marker:
    """Marks lines that match. The expression takes the rest of the line, which becomes a zero byte.

    So the text keeps its number of lines, and those that match end with the mark.

    Args:
        ascii_only, quadratic: as in Rewritten.
    """

    def __init__(self, program: Program, *, ascii_only: bool, quadratic: bool) -> None:
        """Keep them."""
        self._program = program
        self._ascii_only = ascii_only
        self._quadratic = quadratic
        self._spent_ns = self._seen = 0

    def flags(self, text: bytes) -> NDArray[np.bool_] | None:
        """Return for each line of a text whether it matches; None if PCRE2 is not fit for this text.

        Args:
            text: whole lines, each with its newline.
        """
        if _MARK in text or self._is_unfit(text):
            return None
        begin_ns = time.thread_time_ns()
        marked = self._program.replaced(text, _MARK + _NEWLINE, 2 * len(text))
        self._spent_ns += time.thread_time_ns() - begin_ns
        self._seen += len(text)
        if marked is None:
            return None
        content = np.frombuffer(marked, np.uint8)
        ends = np.flatnonzero(content == _NEWLINE[0])
        # The line before an empty first line is the last one, which ends with a newline and no mark.
        flags: NDArray[np.bool_] = content[ends - 1] == _MARK[0]
        return flags

    def _is_unfit(self, text: bytes) -> bool:
        if self._spent_ns > SLOW_FROM_NS + SLOW_NS * self._seen:
            return True
        if self._ascii_only and not text.isascii():
            return True
        return self._quadratic and max(map(len, text.split(_NEWLINE))) > SHORT


def marker_of(tree: Node | None) -> Marker | None:
    """Return a marker for a pattern; None if PCRE2 cannot be used for it."""
    found = None if tree is None else rewritten(tree)
    program = None if found is None else program_of(found.pattern)
    if found is None or program is None:
        return None
    return Marker(program, ascii_only=found.ascii_only, quadratic=found.quadratic)
