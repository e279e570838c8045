"""The background next to others: nothing, our helpers, or plain processes with the same work."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import ktask

from tests.bench.interference import cputime
from tests.bench.interference.private_daemon import PrivateDaemon
from tests.bench.interference.programs import Unmeasured, needed
from tests.bench.interference.rivals import cpus

REPOSITORY = Path(__file__).resolve().parents[3]

_SETTLE_S = 0.5
"""Seconds from the start of the background to the measurement of others."""
_UNITS = 100_000

BURN = "burn"

Used = Callable[[], float]
"""CPU seconds that the background has had so far."""
Beside = Callable[[], AbstractContextManager[Used]]


def reading(memory: ktask.Memory) -> str:
    """The work of plain processes that read this process's memory over and over."""
    return f"/proc/{os.getpid()}/fd/{memory.fileno()}"


@contextmanager
def nothing() -> Iterator[Used]:
    """The idle machine, after an equally long wait."""
    time.sleep(_SETTLE_S)
    yield lambda: 0.0


def ours(private_daemon: PrivateDaemon, mode: str, memory: ktask.Memory | None = None) -> Beside:
    """A detached job on all helpers.

    Args:
        mode: set first; "" = unchanged. In "auto" the governor may hold helpers
            back; otherwise all of them have a chunk before others are measured.
        memory: read over and over; None = the helpers burn CPU time.
    """

    @contextmanager
    def made() -> Iterator[Used]:
        if mode:
            private_daemon.set_mode(mode)
        with private_daemon.working(memory, busy=mode != "auto"):
            time.sleep(_SETTLE_S)
            yield private_daemon.worker_seconds

    return made


def xargs(what: str = BURN) -> Beside:
    """`nice -n 19 xargs -P` with a process for each unit of work."""

    @contextmanager
    def made() -> Iterator[Used]:
        program = needed("xargs", "findutils")
        words = ["nice", "-n", "19", program, "-P", str(len(cpus())), "-n", "1", *_python(), "unit"]
        # A file, since nobody would read a pipe when all processes are killed.
        with _lines(what, _UNITS) as stdin, _session(words, stdin) as process:
            time.sleep(2 * _SETTLE_S)
            yield lambda: cputime.tree(process.pid)

    return made


def pool(what: str = BURN, *, nice: int = 0) -> Beside:
    """A ProcessPoolExecutor with a process for each CPU.

    Args:
        nice: nice value of all its processes.
    """

    @contextmanager
    def made() -> Iterator[Used]:
        words = ["nice", "-n", str(nice), *_python(), "pool", str(len(cpus())), what]
        with _session(words, subprocess.DEVNULL) as process:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise Unmeasured("a plain ProcessPoolExecutor has failed")
            time.sleep(_SETTLE_S)
            yield lambda: cputime.tree(process.pid)

    return made


def _python() -> list[str]:
    return [sys.executable, "-m", "tests.bench.interference.work"]


@contextmanager
def _lines(line: str, count: int) -> Iterator[int]:
    fd = os.memfd_create("lines", os.MFD_CLOEXEC)
    try:
        with open(fd, "w", closefd=False) as file:
            file.write(f"{line}\n" * count)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _session(words: Sequence[str], stdin: int) -> Iterator[subprocess.Popen[str]]:
    """A program in a session of its own, killed with all of its process group."""
    with subprocess.Popen(
        words, cwd=REPOSITORY, stdin=stdin, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
