"""`ktask sum -c`: checks the files of lists of checksums."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ktask.cli.batches import Unreadable
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.cli.output import safe_line, write_out
from ktask.cli.pipeline import in_order
from ktask.cli.streams import DASH, open_any, read_whole
from ktask.cli.sums.digests import Detector
from ktask.cli.sums.lines import Expected, Lines, escape
from ktask.cli.walking import report_unreadable
from ktask.link.connect import open_session
from ktask.link.session import Session

_MISSING = os.strerror(errno.ENOENT)


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
                content = read_whole(path)
            except OSError as error:
                report_unreadable("sum", os.fsencode(path), error.strerror or str(error))
                status = FAILED
                continue
            status = max(status, _List(options, path, session).check(lines, content))
    return status


class _List:
    """Checks one list, and reports on standard error as sha256sum does."""

    def __init__(self, options: argparse.Namespace, path: str, session: Session) -> None:
        self._options, self._path, self._session = options, path, session
        self._counts = _Counts()

    def check(self, lines: Lines, content: bytes) -> int:
        """Check all files of the list; return the exit status."""
        expected = self._expected(lines, content)
        work = Detector(self._session).found
        for batch in in_order(self._session, expected, lambda one: one.name, work, open_any):
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
