"""How a command ends: its exit status, its complaint on standard error, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from ktask.cli.escaping import printable
from ktask.errors import KtaskError

DONE, FAILED, BAD_INPUT, NO_DAEMON, INTERRUPTED, READER_GONE = 0, 1, 2, 3, 130, 141
"""Exit statuses; scripts hold on to them."""

_REFUSED = frozenset(
    {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "FAILED_PRECONDITION"),
        *("OUT_OF_RANGE", "UNIMPLEMENTED", "UNAUTHENTICATED"),
    }
)
"""Statuses of a call that say that the request was wrong."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP has come, which ends a command as Ctrl-C does: cleanly."""

    def __init__(self, number: int) -> None:
        """Remember which."""
        super().__init__()
        self.number = number


def end_cleanly() -> None:
    """Have SIGTERM and SIGHUP cancel the job and remove what was made, as Ctrl-C does.

    One that is ignored stays so, as below nohup.
    """

    def end(number: int, _frame: object) -> None:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        # In another thread than the main one no handler can be set.
        with contextlib.suppress(ValueError):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)


def status_of_interrupt(interrupt: KeyboardInterrupt) -> int:
    """The exit status that a shell gives to a command which a signal has ended."""
    return 128 + interrupt.number if isinstance(interrupt, Terminated) else INTERRUPTED


def status_of(error: KtaskError) -> int:
    """The exit status of a call that failed."""
    # What blocks there is the file that was handed over, not the daemon.
    if error.code in _REFUSED or error.reason == "KEEPER_SILENT":
        return BAD_INPUT
    return NO_DAEMON if error.code == "UNAVAILABLE" else FAILED


def complain(message: str, status: int) -> int:
    """Say what is wrong on standard error; return `status`."""
    # Where nobody is there to be told, the exit status says it.
    with contextlib.suppress(OSError):
        print(f"ktask: {printable(message)}", file=sys.stderr, flush=True)
    return status


def warn(message: str) -> None:
    """Print a warning on standard error."""
    complain(f"warning: {message}", DONE)


def drop_output() -> None:
    """Have all further output go nowhere; Python would complain at its end about what is buffered."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
