"""The parameters of every row: how much to measure, and where."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import ktask
import psutil

from tests.bench.interference.line import Line, failed
from tests.bench.interference.programs import Unmeasured, compiled

FAILURES = (
    *(Unmeasured, AssertionError, OSError, ktask.KtaskError, ktask.JobFailed, ktask.DaemonNotFound),
    *(grpc.RpcError, psutil.Error, subprocess.SubprocessError, ValueError, RuntimeError),
)
"""Errors that the machine or the daemon can cause; any other is a bug of the benchmark."""

_WHY_MAX = 300


@dataclass(frozen=True, slots=True)
class Bench:
    """Effort and place.

    Args:
        seconds: of one window of measurement; rows that need more take a multiple.
        repeat: rounds.
        size: of the memory that jobs work on, in bytes.
        directory: an empty one with a short path, removed afterwards.
    """

    seconds: float
    repeat: int
    size: int
    directory: Path

    def program(self, name: str) -> Path:
        """One of our C programs, compiled."""
        return compiled(name, self.directory)


Row = Callable[[Bench], Iterator[Line]]


def attempt(name: str, lines: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines, and a last one with the reason if the measurement breaks off."""
    try:
        yield from lines()
    except FAILURES as error:
        yield failed(name, reason(error))


def reason(error: BaseException) -> str:
    """An error in one line; the end of a long one, since a log has the cause last."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = text.removeprefix("Unmeasured: ")
    return text if len(text) <= _WHY_MAX else f"... {text[-_WHY_MAX:]}"
