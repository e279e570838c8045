"""`ktask jobs --watch`: a table that follows the jobs, or a line for each change."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from ktask import convert
from ktask.cli.bar import columns_of
from ktask.cli.chosen import chosen
from ktask.cli.clients import format_command, format_files
from ktask.cli.escaping import printable
from ktask.cli.exits import DONE
from ktask.cli.output import as_document
from ktask.cli.text import list_jobs
from ktask.link.session import Session
from ktask.results import Job
from ktask.v1 import jobs_pb2 as pb

NEWEST = 100
"""Jobs that have ended are shown if they are among this many of the newest ones."""

INTERVAL_S = 1.0
"""Time between two looks unless another one is given."""

LIVE = ("queued", "running", "combining", "draining", "undoing")

_HOME, _CLEAR, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


def follow(session: Session, options: argparse.Namespace) -> int:
    """Show the jobs that the options choose until the command is interrupted, which is its normal end."""
    shown = _show_table if _is_screen() and not options.json else _show_changes
    try:
        shown(session, options)
    except KeyboardInterrupt:
        return DONE
    return DONE


def _is_screen() -> bool:
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _snapshots(session: Session, options: argparse.Namespace) -> Iterator[list[pb.Job]]:
    """All live jobs and the newest ended ones, newest first, again and again."""
    while True:
        found = {job.id: job for job in islice(chosen(session, options, page_size=NEWEST), NEWEST)}
        live = [state for state in LIVE if state in options.state or not options.state]
        if live and len(found) == NEWEST:
            found.update((job.id, job) for job in chosen(session, options, states=live))
        yield sorted(found.values(), key=lambda job: job.create_time.ToNanoseconds(), reverse=True)
        time.sleep(INTERVAL_S if options.interval is None else options.interval)


def _show_table(session: Session, options: argparse.Namespace) -> None:
    sys.stdout.write(_CLEAR)
    for jobs in _snapshots(session, options):
        rows = os.get_terminal_size(sys.stdout.fileno()).lines
        sys.stdout.write(frame(map(convert.job, jobs), columns_of(sys.stdout), rows))
        sys.stdout.flush()


def frame(jobs: Iterable[Job], columns: int, rows: int, now: datetime | None = None) -> str:
    """The table drawn over the previous one, cut to the size of the terminal. Pure if `now` is given."""
    lines = list_jobs(jobs, now, shortened=True).splitlines()
    room = max(rows - 1, 2)
    if len(lines) > room:
        more = len(lines) - room + 1
        lines = [*lines[: room - 1], f"and {more} more"]
    # One column stays free: some terminals wrap after the last one.
    cut = (line[: max(columns - 1, 1)] + _REST_OF_LINE for line in lines)
    return _HOME + "\r\n".join(cut) + "\r\n" + _REST


def _show_changes(session: Session, options: argparse.Namespace) -> None:
    known: dict[str, int] = {}
    for jobs in _snapshots(session, options):
        changed = [job for job in reversed(jobs) if known.get(job.id) != job.state]
        # Jobs that the daemon has forgotten are forgotten here, too.
        known = {job.id: job.state for job in jobs}
        print_changes(changed, as_json=options.json)


def print_changes(jobs: Sequence[pb.Job], *, as_json: bool) -> None:
    """Print one line for each job; raises BrokenPipeError when nobody reads them any more."""
    for job in jobs:
        print(json.dumps(as_document(job)) if as_json else line_of(convert.job(job)), flush=True)


def line_of(job: Job) -> str:
    """Id, state, function, files and command of a job in one line."""
    words = [job.id, job.state, job.function, format_files(job), format_command(job)]
    return printable("  ".join(word for word in words if word))
