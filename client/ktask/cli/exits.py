"""How a command ends: its exit status, its complaint on standard error, and the signals that end it."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from typing import NoReturn

from ktask.cli.escaping import printable
from ktask.errors import KtaskError

DONE, FAILED, BAD_INPUT, NO_DAEMON, INTERRUPTED, READER_GONE = 0, 1, 2, 3, 130, 141
"""Exit statuses; scripts rely on them."""

_REFUSED = frozenset(
    {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "FAILED_PRECONDITION"),
        *("OUT_OF_RANGE", "UNIMPLEMENTED", "UNAUTHENTICATED"),
    }
)
"""gRPC statuses that mean a mistake in the request."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP has come, which ends a command as cleanly as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        """Keep the number of the signal."""
        super().__init__()
        self.number = number


def end_cleanly() -> None:
    """Have SIGTERM and SIGHUP cancel the job and remove created files, as Ctrl-C does.

    A signal that is ignored, such as SIGHUP below nohup, stays ignored.
    """

    def end(number: int, _frame: object) -> None:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        # Only the main thread can set a handler.
        with contextlib.suppress(ValueError):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)


def status_of_interrupt(interrupt: KeyboardInterrupt) -> int:
    """The exit status that a shell reports for a command that a signal has ended."""
    return 128 + interrupt.number if isinstance(interrupt, Terminated) else INTERRUPTED


def status_of(error: KtaskError) -> int:
    """The exit status for a failed call."""
    # KEEPER_SILENT: the file that was handed over blocks, not the daemon.
    if error.code in _REFUSED or error.reason == "KEEPER_SILENT":
        return BAD_INPUT
    return NO_DAEMON if error.code == "UNAVAILABLE" else FAILED


def print_error(text: str) -> None:
    """Print a line to standard error; if that is closed, the caller still has the exit status."""
    if sys.stderr is not None:  # else print() would take standard output
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def complain(message: str, status: int) -> int:
    """Print an error to standard error; return `status`."""
    print_error(f"ktask: {printable(message)}")
    return status


def warn(message: str) -> None:
    """Print a warning to standard error."""
    complain(f"warning: {message}", DONE)


def end_now(status: int) -> NoReturn:
    """End the process without clearing every module, which takes longer than a small job.

    The functions of `atexit` are called as at any other end, and what they print is written.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Closed: None, or no file. `main` has reported what became of the command's own output.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(status)


def drop_output() -> None:
    """Discard all further output; at its end Python would complain about what is buffered."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
