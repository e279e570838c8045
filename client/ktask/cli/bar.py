"""The progress bar."""

from __future__ import annotations

import os
import shutil
import time
from typing import TextIO

from ktask import convert
from ktask.cli.escaping import printable
from ktask.cli.text import format_bytes, format_duration
from ktask.results import Job, JobState
from ktask.v1 import jobs_pb2 as pb

_REDRAW_S = 0.1
_CLEAR = "\r\x1b[K"
_BAR_LEAST = 10
_DONE, _LEFT = "#", "-"


def bar(job: Job, elapsed_s: float, width: int) -> str:
    """One line of at most `width` characters that shows the progress of a job. Pure."""
    progress = job.progress
    share = progress.positions_done / progress.positions_total if progress.positions_total else 0.0
    share = min(max(share, 0.0), 1.0)
    head = f"{printable(job.function)} {int(share * 100):3d}% "
    tail = " " + " ".join(_facts(job, share, elapsed_s))
    room = width - len(head) - len(tail) - 2
    if room < _BAR_LEAST:
        return (head + tail.strip())[: max(width, 0)]
    filled = int(share * room)
    return f"{head}[{_DONE * filled}{_LEFT * (room - filled)}]{tail}"


def _facts(job: Job, share: float, elapsed_s: float) -> list[str]:
    """The facts after the bar, the most important one first."""
    progress = job.progress
    facts = []
    if job.state is JobState.RUNNING:
        workers = progress.running_helpers + progress.running_leads
        facts.append(f"{workers} worker{'' if workers == 1 else 's'}")
    else:
        facts.append(job.state.lower())
    if progress.bytes_done and elapsed_s > 0:
        facts.append(f"{format_bytes(int(progress.bytes_done / elapsed_s))}/s")
    if job.state is JobState.RUNNING and 0 < share < 1:
        facts.append(f"{format_duration(elapsed_s * (1 - share) / share)} left")
    elif job.waiting_reasons:
        facts.append(printable(job.waiting_reasons[0].code))
    return facts


class Drawer:
    """Draws the bar on a terminal, each time over the last one.

    Call `clear` before printing a line on the terminal, which would otherwise continue the bar.
    """

    def __init__(self, stream: TextIO) -> None:
        """Prepare to draw on `stream`, a terminal."""
        self._stream = stream
        self._start = time.monotonic()
        self._drawn = 0.0

    def __call__(self, message: pb.Job) -> None:
        """Draw the progress of the job, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        # One column stays free: some terminals wrap after the last one.
        width = columns_of(self._stream) - 1
        self._write(_CLEAR + bar(convert.job(message), now - self._start, width))

    def clear(self) -> None:
        """Erase the bar."""
        if self._drawn:
            self._drawn = 0.0
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def columns_of(stream: TextIO) -> int:
    """Columns of the stream's terminal, which may be another one than that of standard output."""
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        found = 0
    return found or shutil.get_terminal_size().columns


def drawer_for(stream: TextIO | None, wanted: str) -> Drawer | None:
    """A drawer for `stream`; None if the user or the terminal wants no bar, or the stream is closed."""
    if wanted == "off" or stream is None or not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    return Drawer(stream)
