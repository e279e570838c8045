"""Writes log lines to stderr or the journal, a few at a time and not in the middle of an answer."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import sys
import threading

from ktaskd.daemon.journal import JournalHandler, find_send
from ktaskd.host.logline import format_line, is_journal

FLUSH_S = 0.05
"""Longest time for which a line is held back."""


class LateHandler(logging.handlers.MemoryHandler):
    """Formats and writes records a moment later; a warning or worse at once.

    Formatting and writing a line takes a tenth of a small job's whole round trip,
    and nobody waits for it.
    """

    def __init__(self, target: logging.Handler) -> None:
        """Pass records on to `target`. Needs the running loop when it flushes late."""
        super().__init__(capacity=1000, flushLevel=logging.WARNING, target=target)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, and arrange for it to be written soon."""
        super().emit(record)
        if threading.current_thread() is not threading.main_thread() or not self._loop.is_running():
            self.flush()  # only the loop's own thread can set its timers
        elif self.buffer and self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush_late)

    def _flush_late(self) -> None:
        self._timer = None
        self.flush()


class LineFormatter(logging.Formatter):
    """Formats records as `logline` does, with the time unless the journal adds it."""

    def __init__(self, *, timed: bool) -> None:
        """Add the time of each record if `timed`."""
        super().__init__()
        self._timed = timed

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the line without the traceback, which `format` adds below it."""
        when_s = record.created if self._timed else None
        return format_line(record.levelname, record.name, record.getMessage(), when_s)


def start_logging(level: str) -> None:
    """Log to stderr from now on: with fields if it is the journal, otherwise as key=value lines."""
    journal = is_journal()
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(LineFormatter(timed=not journal))
    send = find_send() if journal else None
    handler = plain if send is None else JournalHandler(send, plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # No format uses these, and finding them out costs more than the message.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def write_late() -> None:
    """Delay the writing of log lines from now on. Call it in the loop's thread when the loop runs."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        root.addHandler(LateHandler(handler))
