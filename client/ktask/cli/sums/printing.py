"""`ktask sum` without -c: computes checksums by jobs, and prints a line for each file."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence

from ktask.cli.batches import Opened, Unreadable
from ktask.cli.exits import FAILED, warn
from ktask.cli.output import safe_line, write_out
from ktask.cli.pipeline import in_order
from ktask.cli.streams import DASH, open_any
from ktask.cli.sums.digests import digests
from ktask.cli.sums.lines import Expected, format_sum
from ktask.cli.walking import Complaints, files_of, report_unreadable
from ktask.link.connect import open_session


def print_sums(options: argparse.Namespace) -> int:
    """Print a line with the checksum of each file; 1 if one could not be read."""
    bad, algorithm = Complaints(), options.algorithm or "sha256"
    names = files_of(map(os.fsencode, options.files or [DASH]), bad, recursive=options.recursive)
    with contextlib.closing(open_session(options.socket, warn=warn)) as session:

        def work(opened: Sequence[Opened[bytes]]) -> list[str | Unreadable]:
            return digests(session, opened, algorithm)

        for batch in in_order(session, names, lambda name: name, work, open_any):
            lines = []
            for one, found in batch:
                if isinstance(found, Unreadable):
                    report_unreadable("sum", one.asked, found.problem)
                    bad.status = FAILED
                else:
                    lines.append(_line(Expected(one.asked, algorithm, found), options))
            write_out(b"".join(lines))
    return bad.status


def _line(entry: Expected, options: argparse.Namespace) -> bytes:
    line = format_sum(entry, tag=options.tag, binary=options.binary, zero=options.zero)
    return line if options.zero else safe_line(line[:-1]) + b"\n"
