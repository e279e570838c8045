"""Lines of a log on standard error, with the time unless the journal adds it.

Used by the daemon's logging, and by our processes without logging: workers, pool hosts, keepers.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType

STDERR = 2


def is_journal(environ: Mapping[str, str] = os.environ, fd: int = STDERR) -> bool:
    """Whether the journal receives what is written to `fd`.

    Source: systemd.exec(5), $JOURNAL_STREAM
    """
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


def format_time(when_s: float) -> str:
    """Seconds since the epoch as local time in ISO 8601, with milliseconds and the offset from UTC."""
    return datetime.fromtimestamp(when_s).astimezone().isoformat(timespec="milliseconds")


def format_line(level: str, name: str, text: str, when_s: float | None) -> str:
    """Format one line of the log; `when_s` = None leaves out the time."""
    head = "" if when_s is None else f"{format_time(when_s)} "
    return f"{head}{level} {name} {text}"


def escape(text: str, most: int) -> str:
    """Return a text from elsewhere as it can stand between quotes in a line, cut after `most` characters.

    Nothing in it ends the quotes, begins a line or changes a terminal.
    """
    cut = text if len(text) <= most else f"{text[:most]}..."
    if cut.isprintable() and '"' not in cut and "\\" not in cut:
        return cut  # as nearly always
    return "".join(map(_escaped, cut))


def _escaped(char: str) -> str:
    if char in '\\"' or not char.isprintable():
        return {"\\": r"\\", '"': r"\"", "\n": r"\n", "\t": r"\t"}.get(char) or rf"\u{ord(char):04x}"
    return char


def report(name: str, text: str, level: str = "ERROR") -> None:
    """Write one line of the log to standard error at once; a line that cannot be written is lost."""
    when_s = None if is_journal() else time.time()
    try:
        print(format_line(level, name, text, when_s), file=sys.stderr, flush=True)
    except (OSError, ValueError):  # the reader is gone, or it is closed
        return


def report_exception(name: str, error: BaseException) -> None:
    """Write an unexpected exception to standard error, with its traceback below the line."""
    import traceback  # here, since few processes ever need it

    lines = "".join(traceback.format_exception(error)).rstrip()
    report(name, f"broken kind={type(error).__name__}\n{lines}")


def report_uncaught(name: str) -> None:
    """Report an exception that ends this process as `report_exception` does."""

    def hook(_kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
        report_exception(name, error)

    sys.excepthook = hook
