"""`ktask compare`: where two files differ first."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

from ktask import convert
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.cli.output import print_warnings, safe_line, write_out
from ktask.cli.streams import DASH, open_any
from ktask.cli.text import list_warnings
from ktask.core import Draft
from ktask.errors import JobFailed
from ktask.link.connect import open_session
from ktask.results import JobState

_PIECE = 1 << 20


def compare(options: argparse.Namespace) -> int:
    """Print the first difference; return 1 if there is one."""
    names = [os.fsencode(one) for one in (options.first, options.second)]
    if names == [os.fsencode(DASH)] * 2:
        return DONE
    with contextlib.ExitStack() as end:
        first, second = (open_any(name, end) for name in names)
        at = _difference(options.socket, first, second)
        if at < 0:
            return DONE
        if not options.silent:
            _report(names, (first, second), at)
    return FAILED


def _difference(socket: str | None, first: Any, second: Any) -> int:
    """The first position where they differ, -1 if they are equal; raises KtaskError."""
    with contextlib.closing(open_session(socket, warn=warn)) as session:
        job = convert.job(session.run(Draft("file.compare", sources={"a": first, "b": second})))
    if job.state is not JobState.SUCCEEDED or job.result is None:
        raise JobFailed(job)
    print_warnings(list_warnings(job))
    return int(job.result["first_difference"])


def _report(names: list[bytes], files: tuple[Any, Any], at: int) -> None:
    """Print the difference at a position, as cmp does."""
    sizes = [os.fstat(file.fileno()).st_size for file in files]
    if at < min(sizes):
        lines, _ = _lines_before(files[0].fileno(), at)
        line = b"%s %s differ: byte %d, line %d" % (names[0], names[1], at + 1, lines + 1)
        write_out(safe_line(line) + b"\n")
        return
    short = sizes.index(min(sizes))
    name = os.fsdecode(names[short])
    if not at:
        complain(f"compare: EOF on {name} which is empty", FAILED)
        return
    lines, inside = _lines_before(files[short].fileno(), at)
    place = f"in line {lines + 1}" if inside else f"line {lines}"
    complain(f"compare: EOF on {name} after byte {at}, {place}", FAILED)


def _lines_before(fd: int, end: int) -> tuple[int, bool]:
    """How many lines end before a position, and whether it is inside a line."""
    count, at, last = 0, 0, b"\n"
    while at < end:
        piece = os.pread(fd, min(_PIECE, end - at), at)
        if not piece:
            break
        count, at, last = count + piece.count(b"\n"), at + len(piece), piece[-1:]
    return count, last != b"\n"
