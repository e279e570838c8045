"""`ktask warm`: reads files into the page cache, or drops them from it."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence

from ktask.cli.batches import Opened, Result, Unreadable, each_readable, min_chunk, results
from ktask.cli.exits import FAILED, warn
from ktask.cli.output import safe_line, write_out
from ktask.cli.pipeline import in_order
from ktask.cli.text import format_bytes
from ktask.cli.walking import Complaints, files_of, report_unreadable
from ktask.core import Draft
from ktask.link.connect import open_session
from ktask.link.session import Session


def warm(options: argparse.Namespace) -> int:
    """Warm or drop each file, and print a line for it."""
    bad = Complaints()
    names = files_of(map(os.fsencode, options.files), bad, recursive=options.recursive)
    with contextlib.closing(open_session(options.socket, warn=warn)) as session:

        def work(opened: Sequence[Opened[bytes]]) -> list[Result | Unreadable]:
            return _done(session, opened, drop=options.evict)

        for batch in in_order(session, names, lambda name: name, work):
            lines = []
            for one, found in batch:
                if isinstance(found, Unreadable):
                    report_unreadable("warm", one.asked, found.problem)
                    bad.status = FAILED
                elif not options.quiet:
                    lines.append(safe_line(_line(one.asked, found)) + b"\n")
            write_out(b"".join(lines))
    return bad.status


def _done(session: Session, opened: Sequence[Opened[bytes]], *, drop: bool) -> list[Result | Unreadable]:
    """The result of each file, by one job if possible."""

    def run(chosen: list[Opened[bytes]]) -> list[Result]:
        draft = Draft(
            "file.warm",
            arg={"drop": drop},
            items=[one.file for one in chosen],
            min_chunk=min_chunk(chosen),
        )
        return results(session, draft)

    return each_readable(opened, run)


def _line(name: bytes, found: Result) -> bytes:
    size = int(found["bytes"]) + int(found["skipped"])
    text = f": {format_bytes(size)}"
    before, after = found["resident_before"], found["resident_after"]
    if before is not None and after is not None:
        text += f", {format_bytes(int(before))} in memory before, {format_bytes(int(after))} now"
    return name + text.encode()
