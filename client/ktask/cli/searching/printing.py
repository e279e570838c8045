"""Prints lines that match, as grep does: with names, numbers, and colours. Output is bytes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator

from ktask.cli.output import safe_line
from ktask.cli.searching.query import Query

_MATCH, _NAME, _NUMBER, _SIGN = b"01;31", b"35", b"32", b"36"
"""Colours. Source: the manual of GNU grep, 2.1.6, GREP_COLORS"""

Write = Callable[[bytes], object]


class Printer:
    """Prints the lines of one file after the other.

    Args:
        write: gets the output.
        prefix: print the name of the file with each line.
        color: with the escapes of a terminal.
    """

    def __init__(
        self, options: argparse.Namespace, query: Query, write: Write, *, prefix: bool, color: bool
    ) -> None:
        """Raises UsageError if parts of lines are wanted and cannot be found."""
        self._write = write
        self._prefix = prefix
        self._color = color
        self._only = bool(options.only)
        self.numbers = bool(options.number)
        self._parts = query.parts() if self._only or color else None

    @property
    def is_plain(self) -> bool:
        """Whether lines are printed as they are."""
        return not (self._prefix or self.numbers or self._parts)

    def name(self, name: bytes) -> None:
        """Print the name of a file alone."""
        self._write(self._colored(_NAME, safe_line(name)) + b"\n")

    def count(self, name: bytes, count: int) -> None:
        """Print a number of lines."""
        self._write(self._begin(name, None) + b"%d\n" % count)

    def lines(self, name: bytes, text: bytes, numbers: Iterator[int] | None) -> None:
        """Print lines.

        Args:
            text: whole lines with their newlines, which the last may lack.
            numbers: the number of each line; None if they are not printed.
        """
        text = text if text.endswith(b"\n") else text + b"\n"
        if self.is_plain:
            self._write(text)
        elif self._parts is None and numbers is None:
            begin = self._begin(name, None)
            self._write(begin + text[:-1].replace(b"\n", b"\n" + begin) + b"\n")
        else:
            self._write(b"".join(self._each(name, text, numbers)))

    def _each(self, name: bytes, text: bytes, numbers: Iterator[int] | None) -> Iterator[bytes]:
        for line in text[:-1].split(b"\n"):
            begin = self._begin(name, next(numbers) if numbers else None)
            if self._only and self._parts:
                for first, after in self._parts(line):
                    yield begin + self._colored(_MATCH, line[first:after]) + b"\n"
            else:
                yield begin + self._highlighted(line) + b"\n"

    def _begin(self, name: bytes, number: int | None) -> bytes:
        sign = self._colored(_SIGN, b":")
        begin = self._colored(_NAME, safe_line(name)) + sign if self._prefix else b""
        return begin if number is None else begin + self._colored(_NUMBER, b"%d" % number) + sign

    def _highlighted(self, line: bytes) -> bytes:
        if not self._color or self._parts is None:
            return line
        found, at = [], 0
        for first, after in self._parts(line):
            found += [line[at:first], self._colored(_MATCH, line[first:after])]
            at = after
        return b"".join((*found, line[at:]))

    def _colored(self, color: bytes, text: bytes) -> bytes:
        return b"\33[" + color + b"m\33[K" + text + b"\33[m\33[K" if self._color else text


def is_utf8_locale() -> bool:
    """Whether the user's locale has UTF-8, in which other bytes are no text."""
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    name = next((name for name in names if name), "")
    return "utf8" in name.lower().replace("-", "")


def text_before_zero(text: bytes) -> int:
    """How many bytes come before the first line with a zero byte."""
    zero = text.find(0)
    return len(text) if zero < 0 else text.rfind(b"\n", 0, zero) + 1


def is_utf8(text: bytes) -> bool:
    """Whether all of it is valid."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
