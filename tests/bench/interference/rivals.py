"""Rivals: real processes that want the CPU, in a session and optionally a cgroup of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.interference.groups import Group
from tests.bench.interference.programs import Unmeasured

_FOREVER_S = 1e6


@dataclass(frozen=True, slots=True)
class Got:
    """The CPU time and iterations of all threads of some rivals together, in one window."""

    iterations: float
    cpu_s: float

    def __add__(self, other: Got) -> Got:
        return Got(self.iterations + other.iterations, self.cpu_s + other.cpu_s)


def parse_rival(line: str) -> Got:
    """One line of what `rival.c` prints."""
    words = line.split()
    if len(words) != 3:
        raise Unmeasured(f"rival: printed {line!r}")
    return Got(float(words[0]), int(words[1]) / 1e9)


class Rivals:
    """One process of `rival.c` that waits for work."""

    def __init__(self, process: subprocess.Popen[str], threads: int) -> None:
        """Take over the process."""
        self.process = process
        self._threads = threads

    def start(self, seconds: float = _FOREVER_S) -> None:
        """Have all threads work for this long."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def collect(self) -> Got:
        """Wait for the end of the work; returns the figures of all threads."""
        assert self.process.stdout is not None
        total = Got(0, 0)
        for _ in range(self._threads):
            total += parse_rival(self.process.stdout.readline())
        return total


def cpus() -> list[int]:
    """The CPUs that we may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def rivals(
    program: Path, threads: int, *, pinned: Sequence[int] = (), group: Group | None = None
) -> Iterator[Rivals]:
    """One process with this many threads, in a session of its own; killed at the end.

    Args:
        program: `rival.c`, compiled.
        pinned: CPUs of the first threads; the others may run anywhere.
        group: cgroup that the process is put into; None = ours.
    """
    words = [str(program), str(threads), *map(str, pinned)]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            if group:
                group.add(process.pid)
            yield Rivals(process, threads)
        finally:
            process.kill()


@contextmanager
def crowd(program: Path, count: int) -> Iterator[None]:
    """This many rivals that never pause, each in a session of its own."""
    with ExitStack() as end:
        for _ in range(count):
            end.enter_context(rivals(program, 1)).start()
        yield
