"""The query of a search: the arguments of a job, and the matches within a line. Pure."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ktask.cli.arguments import UsageError
from ktask.cli.searching.extended import PatternInvalid, literal, to_re2

_IN_A_WORD = r"\pL\pN_"


class Parts(Protocol):
    """Finds the parts of a line that match."""

    def __call__(self, line: bytes) -> Iterator[tuple[int, int]]:
        """Begin and end of each part that matches and is not empty, ascending."""


@dataclass(frozen=True, slots=True)
class Query:
    """A pattern for text.search and text.extract."""

    pattern: str
    regex: bool
    ignore_case: bool
    invert: bool = False

    def arg(self) -> dict[str, Any]:
        """The arguments of a job."""
        names = ("pattern", "regex", "ignore_case", "invert")
        return {name: getattr(self, name) for name in names}

    def parts(self) -> Parts:
        """A finder of the parts of a line that match, of which the longest counts; raises UsageError."""
        try:
            # Of the extra "functions"; only -o and colours need it here.
            import re2
        except ImportError:
            raise UsageError(
                "-o and --color: need google-re2; run `pip install 'ktaskd[functions]'`"
            ) from None
        engine = re2.Options()
        engine.longest_match, engine.never_nl, engine.log_errors = True, True, False
        engine.case_sensitive, engine.literal = not self.ignore_case, not self.regex
        expression = re2.compile(self.pattern.encode(), engine)

        def parts(line: bytes) -> Iterator[tuple[int, int]]:
            for found in expression.finditer(line):
                if found.end() > found.start():
                    yield found.span()

        return parts


def query_of(options: argparse.Namespace) -> Query:
    """The query for a command line; raises UsageError."""
    patterns = [line for given in options.patterns for line in _text(given).split("\n")]
    if options.fixed and len(patterns) == 1 and not (options.word or options.line):
        return Query(patterns[0], False, options.ignore_case, options.invert)
    try:
        parts = [literal(one) if options.fixed else to_re2(one) for one in patterns]
    except PatternInvalid as error:
        raise UsageError(f"pattern: {error}") from None
    pattern = parts[0] if len(parts) == 1 else "|".join(f"(?:{part})" for part in parts)
    if options.line:
        pattern = f"^(?:{pattern})$"
    elif options.word:
        pattern = f"(?:^|[^{_IN_A_WORD}])(?:{pattern})(?:$|[^{_IN_A_WORD}])"
    return Query(pattern, True, options.ignore_case, options.invert)


def _text(given: str) -> str:
    try:
        return os.fsencode(given).decode()
    except UnicodeDecodeError:
        raise UsageError(f"pattern: got {given!r}, wanted text in UTF-8") from None
