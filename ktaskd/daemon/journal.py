"""Log lines as entries of the journal, with a field for each value.

`journalctl KTASKD_JOB=...` finds the history of a job, KTASKD_REASON=ON_BATTERY
the times when helpers gave way because of the battery.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Callable

SOCKET = "/run/systemd/journal/socket"
"""Source: systemd-journald.service(8)"""

PREFIX = "KTASKD_"
_KEY = re.compile(r"(\w+)=\"?%")
_PLAIN = re.compile(r"(\w+)=([^%\s\"]+)")
_PLACE = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z%]")
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Levels of logging and of syslog(3)."""

Send = Callable[..., object]


def find_send(socket: str = SOCKET) -> Send | None:
    """Return the journal's own send call; None if systemd-python is not installed or the socket is missing.

    Without the socket the call succeeds and sends nothing. A container may have the journal's
    stream as its standard error, but not the directory of the socket.
    """
    if not os.path.exists(socket):
        return None
    try:
        send: Send = importlib.import_module("systemd.journal").send
    except ImportError:
        return None
    return send


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """Return the values of a line of the form "event key=%s ...", by PREFIX and KEY.

    They come from the arguments and not from the text, so a blank or a quote
    in a value does no harm. Lines of another form have no fields.
    """
    text = str(record.msg)
    args = record.args if isinstance(record.args, tuple) else ()
    places = [match.start() for match in _PLACE.finditer(text) if not match[0].endswith("%")]
    if len(places) != len(args):
        return {}
    keys = {match.end() - 1: match[1] for match in _KEY.finditer(text)}
    values = zip(places, args, strict=True)
    found = {f"{PREFIX}{keys[at].upper()}": str(value) for at, value in values if at in keys}
    found |= {f"{PREFIX}{match[1].upper()}": match[2] for match in _PLAIN.finditer(text)}
    event = text.split(" ", 1)[0]
    if event.isidentifier():
        found[f"{PREFIX}EVENT"] = event
    return found


class JournalHandler(logging.Handler):
    """Sends each record to the journal, or to another handler if that fails."""

    def __init__(self, send: Send, fallback: logging.Handler) -> None:
        """Call `send`; where it fails, use `fallback`."""
        super().__init__()
        self._send = send
        self._fallback = fallback

    def emit(self, record: logging.LogRecord) -> None:
        """Send one entry."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        try:
            self._send(
                self._text(record),
                PRIORITY=str(priority),
                LOGGER=record.name,
                SYSLOG_IDENTIFIER="ktaskd",
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **fields_of(record),
            )
        except (OSError, UnicodeError):  # the latter for a name whose bytes are no text
            self._fallback.emit(record)

    def _text(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return record.getMessage()
        return f"{record.getMessage()}\n{logging.Formatter().formatException(record.exc_info)}"
