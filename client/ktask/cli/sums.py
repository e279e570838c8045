"""`ktask sum` without -c: computes checksums by jobs, and prints a line for each file."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ktask.cli.batches import Opened, Result, Unreadable, each, min_chunk, results
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.cli.manifest import Complaints, output_identity, walk
from ktask.cli.output import safe_line, write_out
from ktask.cli.pipeline import in_order
from ktask.cli.streams import DASH, input_source, spool
from ktask.cli.sum_lines import DIGITS, Expected, format_sum
from ktask.core import Draft
from ktask.link.connect import open_session
from ktask.link.session import Session

_MANIFEST = ("sha256", "blake3")
"""Algorithms of the function file.manifest; each other one has a function of its own."""

_SMALL = 64 << 10
"""Bytes up to which a file that occupies no block may be one of /sys, which has no true length."""


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


def report_unreadable(verb: str, name: bytes, problem: str) -> None:
    """Report a file that cannot be read on standard error."""
    complain(f'{verb}: file "{os.fsdecode(name)}": {problem}', DONE)


def files_of(paths: Iterable[bytes], bad: Complaints, *, recursive: bool) -> Iterator[bytes]:
    """Yield the given names, and with `recursive` the files below directories in their place."""
    for path in paths:
        if recursive and path != os.fsencode(DASH) and os.path.isdir(path):
            yield from walk([path], output_identity(), bad)
        else:
            yield path


def digests(session: Session, opened: Sequence[Opened[Any]], algorithm: str) -> list[str | Unreadable]:
    """The digits of each file's checksum, or why it could not be read; by one job if possible."""
    readable = [i for i, one in enumerate(opened) if one.file]

    def run(numbers: range) -> list[Result]:
        chosen = [opened[readable[i]] for i in numbers]
        items, least = [one.file for one in chosen], min_chunk(chosen)
        if algorithm in _MANIFEST:
            arg = {"algorithm": algorithm}
            return results(session, Draft("file.manifest", arg=arg, items=items, min_chunk=least))
        return results(session, Draft(f"file.{algorithm}", items=items, min_chunk=least))

    found: list[str | Unreadable] = [Unreadable(one.problem) for one in opened]
    for i, result in zip(readable, each(run, range(len(readable))), strict=True):
        found[i] = result if isinstance(result, Unreadable) else _digits(result, algorithm)
    return found


def _digits(result: Result, algorithm: str) -> str:
    # A function of one algorithm names its result after it; a CRC is a number.
    value = result["digest"] if "digest" in result else result[algorithm]
    return value if isinstance(value, str) else f"{int(value):0{DIGITS[algorithm]}x}"


def open_any(name: bytes, end: contextlib.ExitStack) -> Any:
    """Open a file to be read to its end; that of no regular file goes to a temporary one first.

    Raises:
        OSError: it cannot be opened or read, or is a directory.
        UsageError: standard input is closed.
    """
    if name == os.fsencode(DASH):
        return input_source("-", end)
    file = end.enter_context(open(name, "rb", buffering=0))  # noqa: SIM115 - closed by `end`
    return file if _has_length(file.fileno()) else spool(file, end)


def _has_length(fd: int) -> bool:
    """Whether the content of a file is as long as its status says, which is not so in /proc and /sys."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    if status.st_size and (status.st_blocks or status.st_size > _SMALL):
        return True
    return not status.st_size and not os.pread(fd, 1, 0)
