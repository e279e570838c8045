"""`ktask sum -c`: checks the files of lists of checksums."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ktask.cli.arguments import UsageError
from ktask.cli.batches import Opened, Unreadable
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.cli.manifest_text import escape
from ktask.cli.output import safe_line, write_out
from ktask.cli.pipeline import in_order
from ktask.cli.streams import DASH
from ktask.cli.sum_lines import Expected, Lines
from ktask.cli.sums import digests, open_any, report_unreadable
from ktask.link.connect import open_session
from ktask.link.session import Session

_MISSING = os.strerror(errno.ENOENT)

_OTHER = {"sha256": "blake3", "blake3": "sha256"}
"""Two algorithms of as many digits, which lines without a name can be of."""


@dataclass(slots=True)
class _Counts:
    """The findings of one list."""

    good: int = 0
    wrong: int = 0
    unreadable: int = 0
    bad_lines: int = 0
    skipped: int = 0


def check_lists(options: argparse.Namespace) -> int:
    """Check the files of each list; 1 if one does not match or cannot be read."""
    lines = Lines(options.algorithm)
    status = DONE
    with contextlib.closing(open_session(options.socket, warn=warn)) as session:
        for path in options.files or [DASH]:
            try:
                content = _read(path)
            except OSError as error:
                report_unreadable("sum", os.fsencode(path), error.strerror or str(error))
                status = FAILED
                continue
            status = max(status, _List(options, path, session).check(lines, content))
    return status


def _read(path: str) -> bytes:
    """The whole list; raises OSError, UsageError."""
    if path != DASH:
        with open(path, "rb") as file:
            return file.read()
    if sys.stdin is None:
        raise UsageError("standard input: it is closed")
    return sys.stdin.buffer.read()


def _differs(one: Expected, found: str | Unreadable) -> bool:
    return not isinstance(found, Unreadable) and found != one.digest


class _List:
    """Checks one list, and reports on standard error as sha256sum does."""

    def __init__(self, options: argparse.Namespace, path: str, session: Session) -> None:
        self._options, self._path, self._session = options, path, session
        self._counts = _Counts()
        self._usual = "sha256"

    def check(self, lines: Lines, content: bytes) -> int:
        """Check all files of the list; return the exit status."""
        expected = self._expected(lines, content)
        for batch in in_order(self._session, expected, lambda one: one.name, self._found, open_any):
            for one, found in batch:
                self._add(one.asked, found)
        return self._summarize()

    def _expected(self, lines: Lines, content: bytes) -> Iterator[Expected]:
        """Yield the entries; count lines in no known format, and report them with -w."""
        for number, entry in lines.read(content, is_input=self._path == DASH):
            if entry is not None:
                yield entry
                continue
            self._counts.bad_lines += 1
            if self._options.warn:
                complain(f"sum: {self._path}: {number}: improperly formatted checksum line", DONE)

    def _found(self, opened: Sequence[Opened[Expected]]) -> list[str | Unreadable]:
        """The checksum of each file, by one job for each algorithm."""
        found: list[str | Unreadable] = [""] * len(opened)
        usual = self._usual
        names = [one.asked.algorithm if one.asked.sure else usual for one in opened]
        for algorithm in dict.fromkeys(names):
            self._compute(opened, [i for i, name in enumerate(names) if name == algorithm], algorithm, found)
        unsure = [i for i, one in enumerate(opened) if not one.asked.sure and _differs(one.asked, found[i])]
        self._try_other(opened, unsure, _OTHER[usual], found)
        return found

    def _compute(
        self,
        opened: Sequence[Opened[Expected]],
        chosen: Sequence[int],
        algorithm: str,
        found: list[str | Unreadable],
    ) -> None:
        """Fill in the checksums of the chosen files."""
        sums = digests(self._session, [opened[i] for i in chosen], algorithm)
        for i, digest in zip(chosen, sums, strict=True):
            found[i] = digest

    def _try_other(
        self,
        opened: Sequence[Opened[Expected]],
        unsure: Sequence[int],
        other: str,
        found: list[str | Unreadable],
    ) -> None:
        """Take another algorithm's checksums for lines that do not name theirs and do not match."""
        if not unsure:
            return
        tried = list(found)
        self._compute(opened, unsure, other, tried)
        right = [i for i in unsure if tried[i] == opened[i].asked.digest]
        for i in right:
            found[i] = tried[i]
        if 2 * len(right) > len(unsure):
            self._usual = other  # of the files that follow, so that few are read twice

    def _add(self, one: Expected, found: str | Unreadable) -> None:
        if isinstance(found, Unreadable):
            if self._options.ignore_missing and found.problem == _MISSING:
                self._counts.skipped += 1
                return
            report_unreadable("sum", one.name, found.problem)
            self._counts.unreadable += 1
            self._print(one.name, b"FAILED open or read")
        elif found != one.digest:
            self._counts.wrong += 1
            self._print(one.name, b"FAILED")
        else:
            self._counts.good += 1
            if not self._options.quiet:
                self._print(one.name, b"OK")

    def _print(self, name: bytes, result: bytes) -> None:
        if not self._options.status:
            # coreutils escape a name here only for a line end in it.
            mark, shown = escape(name) if b"\n" in name else (b"", name)
            write_out(safe_line(mark + shown + b": " + result) + b"\n")

    def _summarize(self) -> int:
        counts = self._counts
        if not (counts.good or counts.wrong or counts.unreadable or counts.skipped):
            return complain(f"sum: {self._path}: no properly formatted checksum lines found", FAILED)
        if not self._options.status:
            self._warn(counts)
        bad = counts.wrong or counts.unreadable or not counts.good
        return FAILED if bad or (self._options.strict and counts.bad_lines) else DONE

    def _warn(self, counts: _Counts) -> None:
        for count, one, more in (
            (counts.bad_lines, "line is improperly formatted", "lines are improperly formatted"),
            (counts.unreadable, "listed file could not be read", "listed files could not be read"),
            (counts.wrong, "computed checksum did NOT match", "computed checksums did NOT match"),
        ):
            if count:
                complain(f"sum: WARNING: {count} {one if count == 1 else more}", DONE)
        if self._options.ignore_missing and not counts.good:
            complain(f"sum: {self._path}: no file was verified", DONE)
