"""Functions for workers: they start processes and leave them running."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

KIDS = 12
LIFE_S = 120
"""How long the processes live at most, so that a broken product does not leave them forever."""


def leave_running(mark: Path, how: str) -> int:
    """Start processes that never end and share a lock on `mark`; return the worker's process id."""
    with _locked(mark) as held:
        if how == "program":
            words = [sys.executable, "-c", "import time; time.sleep(1e6)"]
            subprocess.Popen(words, pass_fds=[held.fileno()])
        elif not os.fork():
            try:
                _HOW[how]()
            finally:
                os._exit(0)
    return os.getpid()


def leave_and_die(mark: Path, how: str) -> NoReturn:
    """Start such processes, then kill the worker."""
    leave_running(mark, how)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("lives on")


def leave_in_chunk(data: object, start: int, end: int, given: tuple[Path, str]) -> None:
    """Start such processes in a thread function."""
    leave_running(given[0].with_name(f"{given[0].name}{start}"), given[1])


def leave_and_stay(data: object, start: int, end: int, given: tuple[Path, str]) -> None:
    """Start such processes in a chunk that never ends."""
    leave_running(*given)
    time.sleep(1e6)


def is_free(mark: Path) -> bool:
    """Whether none of the processes lives any more."""
    with mark.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _locked(mark: Path) -> TextIO:
    file = mark.open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _rest() -> NoReturn:
    signal.alarm(LIFE_S)
    while True:
        signal.pause()


def _daemonize() -> NoReturn:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.setsid()
    _rest()


def _ignore() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _refuse() -> NoReturn:
    _ignore()
    _rest()


def _move_on() -> NoReturn:
    """Keep forking and exiting, each time in a new session."""
    _ignore()
    until_s = time.monotonic() + LIFE_S
    while time.monotonic() < until_s:
        if os.fork():
            os._exit(0)
        os.setsid()
    os._exit(0)


def _multiply() -> NoReturn:
    """Always have this many children, replacing those that end; the children do the same."""
    _ignore()
    for _ in range(2):
        if not os.fork():
            break
    until_s = time.monotonic() + LIFE_S
    while time.monotonic() < until_s:
        for i in range(KIDS):
            if not os.fork():
                if i % 2:
                    os.setsid()
                _rest()
        for _ in range(KIDS):
            os.wait()
    os._exit(0)


_HOW: dict[str, Callable[[], NoReturn]] = {
    "child": _rest,
    "daemon": _daemonize,
    "deaf child": _refuse,
    "comet": _move_on,
    "hydra": _multiply,
}
WAYS = ("program", *_HOW)
