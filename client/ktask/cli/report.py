"""The output of `ktask verify`, and the state that lets a later run resume."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktask.cli.arguments import UsageError
from ktask.cli.batches import Unreadable
from ktask.cli.exits import DONE, FAILED, complain
from ktask.cli.manifest_text import Listed
from ktask.cli.output import print_document, safe_line, write_out
from ktask.cli.replacement import Replacement
from ktask.cli.sums.lines import escape

_UNREADABLE = " open or read"

Found = Sequence[str] | Unreadable
"""The faults of one file, empty if it has none; or why it could not be checked."""


class Report:
    """Prints one line for each file, as `sha256sum -c` does; or a JSON document."""

    def __init__(self, options: argparse.Namespace, state: State) -> None:
        """Repeat the findings of an earlier run."""
        self._quiet: bool = options.quiet
        self._json: bool = options.json
        self._state = state
        self._documents: list[dict[str, Any]] = []
        self._unreadable = 0
        for line in state.bad:
            self._print(line + b" (before)")

    def add(self, name: bytes, found: Found) -> None:
        """Print the result of one file."""
        unreadable = isinstance(found, Unreadable)
        if isinstance(found, Unreadable):
            complain(f'file "{os.fsdecode(name)}": {found.problem}', FAILED)
            self._unreadable += 1
            problems: Sequence[str] = [_UNREADABLE]
        else:
            problems = found
        mark, shown = escape(name)
        for problem in problems:
            line = mark + shown + b": FAILED" + os.fsencode(problem)
            self._state.bad.append(line)
            self._print(line)
        if not problems and not self._quiet:
            self._print(mark + shown + b": OK")
        if problems or not self._quiet:
            why = found.problem if isinstance(found, Unreadable) else ""
            self._note(name, [why] if unreadable else [one.strip() for one in problems], ok=not problems)

    def _note(self, name: bytes, problems: Sequence[str], *, ok: bool) -> None:
        if self._json:
            document = {"name": os.fsdecode(name), "ok": ok}
            self._documents.append(document | {"problems": [one or "digest" for one in problems]})

    def _print(self, line: bytes) -> None:
        if self._json:
            return
        write_out(safe_line(line) + b"\n")

    def summarize(self, listed: Listed, path: str) -> int:
        """Report how many files were bad; return the exit status."""
        bad, lines = len(self._state.bad), len(listed.bad_lines)
        if self._json:
            print_document({"files": self._documents, "findings": bad, "badLines": lines})
        if not listed.entries:
            wanted = "wanted 64 hexadecimal digits of sha256 or blake3 and a name"
            return complain(f'manifest "{path}": no properly formatted line, {wanted}', FAILED)
        if lines:
            are = "line is" if lines == 1 else "lines are"
            complain(f'manifest "{path}": {lines} {are} improperly formatted{_numbers(listed)}', DONE)
        if bad:
            return complain(f"verify: {len(listed.entries)} files, {bad} findings", FAILED)
        return DONE


def _numbers(listed: Listed) -> str:
    """The numbers of the first bad lines."""
    known = [str(number) for number in listed.bad_lines if number]
    more = ", ..." if len(known) > 5 else ""
    return f": {', '.join(known[:5])}{more}" if known else ""


class State:
    """The progress of an earlier run: a file with one head line and the findings; optional."""

    def __init__(self, path: str | None, manifest_digest: str) -> None:
        """Load it; raises UsageError if the file is no such state, or belongs to another list."""
        self._path = Path(path) if path is not None else None
        self._digest = manifest_digest.encode()
        self.done = 0
        self.bad: list[bytes] = []
        if self._path is not None and self._path.exists():
            self._load(self._path)

    def _load(self, path: Path) -> None:
        head, *bad = path.read_bytes().split(b"\n")
        words = head.split(b" ")
        if len(words) != 3 or words[0] != b"ktask-verify" or not words[2].isdigit():
            raise UsageError(
                f'resume "{path}": got another kind of file, wanted one that `ktask verify` has written'
            )
        if words[1] != self._digest:
            raise UsageError(f'resume "{path}": it belongs to another manifest; remove it to begin again')
        self.done, self.bad = int(words[2]), [line for line in bad if line]

    def note(self, count: int) -> None:
        """Count further checked entries, and save the position to resume at."""
        self.done += count
        if self._path is not None:
            lines = [b"ktask-verify %s %d" % (self._digest, self.done), *self.bad]
            with Replacement(str(self._path)) as new:
                new.file.write(b"\n".join(lines) + b"\n")
                new.complete()

    def forget(self) -> None:
        """Remove the file when all is checked: the next run begins again."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
