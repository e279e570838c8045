"""Digests of open files by jobs, and the algorithm of digests that do not name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ktask.cli.batches import Opened, Result, Unreadable, each_readable, min_chunk, results
from ktask.cli.sums.lines import AMBIGUOUS, DIGITS, Expected
from ktask.core import Draft
from ktask.link.session import Session

_PROBES = 3
"""Files that are tried with each algorithm if the list does not name it."""


def digests(session: Session, opened: Sequence[Opened[Any]], algorithm: str) -> list[str | Unreadable]:
    """The digits of each file's digest, or why it could not be read; by one job if possible."""

    def run(chosen: list[Opened[Any]]) -> list[Result]:
        items = [one.file for one in chosen]
        return results(session, Draft(f"file.{algorithm}", items=items, min_chunk=min_chunk(chosen)))

    return [
        one if isinstance(one, Unreadable) else _digits(one[algorithm], algorithm)
        for one in each_readable(opened, run)
    ]


def _digits(value: object, algorithm: str) -> str:
    """A digest as text; a CRC is a number."""
    return f"{value:0{DIGITS[algorithm]}x}" if isinstance(value, int) else str(value)


class Detector:
    """Computes the digests that lists expect, each by its algorithm. Thread-safe.

    The smallest files of the first batch show the algorithm of lines that do not name theirs. A file that
    does not match is read again with the other one, since an intact file must never count as changed.
    """

    def __init__(self, session: Session) -> None:
        """Compute nothing yet."""
        self._session = session
        self._usual: str | None = None

    def found(self, opened: Sequence[Opened[Expected]]) -> list[str | Unreadable]:
        """The digits of each file's digest, or why it could not be read."""
        unsure = [i for i, one in enumerate(opened) if one.file and not one.asked.sure]
        if unsure and self._usual is None:
            self._usual = self._probe([opened[i] for i in unsure])
        usual = self._usual or AMBIGUOUS[0]
        names = [one.asked.algorithm if one.asked.sure else usual for one in opened]
        found: list[str | Unreadable] = [""] * len(opened)
        for algorithm in dict.fromkeys(names):
            chosen = [i for i, name in enumerate(names) if name == algorithm]
            for i, digest in zip(chosen, self._digests(opened, chosen, algorithm), strict=True):
                found[i] = digest
        self._try_others(opened, [i for i in unsure if _differs(opened[i].asked, found[i])], usual, found)
        return found

    def _digests(
        self, opened: Sequence[Opened[Expected]], chosen: Sequence[int], algorithm: str
    ) -> list[str | Unreadable]:
        return digests(self._session, [opened[i] for i in chosen], algorithm)

    def _try_others(
        self,
        opened: Sequence[Opened[Expected]],
        wrong: Sequence[int],
        usual: str,
        found: list[str | Unreadable],
    ) -> None:
        """Take another algorithm's digests for the files that they match."""
        for algorithm in AMBIGUOUS:
            if algorithm == usual or not wrong:
                continue
            others = zip(wrong, self._digests(opened, wrong, algorithm), strict=True)
            right = {i: digest for i, digest in others if digest == opened[i].asked.digest}
            for i, digest in right.items():
                found[i] = digest
            if len(right) * 2 > len(wrong):
                self._usual = algorithm

    def _probe(self, files: Sequence[Opened[Expected]]) -> str | None:
        """The algorithm of the smallest files' digests; None if none matches."""
        smallest = sorted(files, key=lambda one: one.size)[:_PROBES]
        for algorithm in AMBIGUOUS:
            found = digests(self._session, smallest, algorithm)
            if any(digest == one.asked.digest for digest, one in zip(found, smallest, strict=True)):
                return algorithm
        return None


def _differs(one: Expected, found: str | Unreadable) -> bool:
    return not isinstance(found, Unreadable) and found != one.digest
