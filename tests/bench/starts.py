"""The time of the command for a help text and for a small job.

The limit is an interpreter that does nothing, in the same rounds. CPU time is shown as well, since it
suffers less from a busy machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.bench.measure import Figure, Goal, Spread, in_turn, table
from tools.private import private_daemon, temporary_directory

HELP_MS = Goal(40, at_least=False)
JOB_MS = Goal(60, at_least=False)
"""The goals for a help text and for a small job."""

BIN = Path(sys.executable).parent
Measured = tuple[str, Goal | None, list[float], list[float]]
"""Name, goal, milliseconds of wall time and of CPU time."""

LIMIT = (sys.executable, "-I", "-c", "pass")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.starts", description=__doc__)
    parser.add_argument("--repeat", type=int, default=21, help="rounds (default: 21)")
    options = parser.parse_args(argv)
    with temporary_directory("ktaskd-starts-") as directory, private_daemon(directory) as runtime:
        print(table(starts(runtime, directory, options.repeat)))
    return 0


def commands(runtime: str, directory: Path) -> Iterator[tuple[str, Goal | None, Sequence[str]]]:
    """Name, goal and words of each command."""
    small = directory / "small"
    small.write_bytes(bytes(range(256)) * 16)
    ktask, daemon = str(BIN / "ktask"), str(BIN / "ktaskd")
    job = (ktask, "--socket", runtime, "run")
    yield "python -I -c pass (the limit)", None, LIMIT
    yield "python -c pass", None, (sys.executable, "-c", "pass")
    yield "ktask --version", HELP_MS, (ktask, "--version")
    yield "ktask --help", HELP_MS, (ktask, "--help")
    yield "ktask run -h", HELP_MS, (ktask, "run", "-h")
    yield "ktaskd --version", HELP_MS, (daemon, "--version")
    yield "ktask run selftest.noop", JOB_MS, (*job, "selftest.noop")
    yield "ktask run file.crc32, 4 KiB", JOB_MS, (*job, "file.crc32", f"data={small}")


def starts(runtime: str, directory: Path, repeat: int) -> list[Figure]:
    """The figures of all commands: milliseconds of wall time, with CPU time beside them."""
    return [
        Figure(name, Spread.of(wall), "ms", goal, _about(cpu))
        for name, goal, wall, cpu in rounds(runtime, directory, repeat)
    ]


def rounds(runtime: str, directory: Path, repeat: int) -> Iterator[Measured]:
    """Name, goal, and the milliseconds of wall and CPU time of each round, of all commands, interleaved."""
    chosen = list(commands(runtime, directory))
    runs: list[Callable[[], tuple[float, float]]] = [partial(_run, words) for _, _, words in chosen]
    for (name, goal, _), times in zip(chosen, in_turn(repeat, *runs), strict=True):
        yield name, goal, [wall for wall, _ in times], [cpu for _, cpu in times]


def _about(cpu: Sequence[float]) -> str:
    spread = Spread.of(cpu)
    return f"CPU {spread.median:.1f}, at least {spread.least:.1f} ms"


def _run(words: Sequence[str]) -> tuple[float, float]:
    """Milliseconds of wall time and of CPU time of one command."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environ)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1e3, cpu * 1e3


if __name__ == "__main__":
    sys.exit(main())
