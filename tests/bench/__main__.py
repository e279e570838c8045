"""Measure this machine: each figure from one run, with its spread.

A missed goal is a result and no failure: the exit status is 0 all the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ktask

from tests.bench.calls import dispatch, round_trips
from tests.bench.cancels import cancels
from tests.bench.executors.calls import executors
from tests.bench.footprint import sizes
from tests.bench.lines import PATTERNS, Pattern
from tests.bench.machine import describe_machine, load
from tests.bench.measure import Figure, table
from tests.bench.searches import searches
from tests.bench.speedup import speedups
from tests.bench.throughput import throughputs
from tools.private import private_daemon, temporary_directory


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Args:
        size: of the file and the memory, in bytes.
        calls: number of calls in each turn of each round.
        chunks: number of chunks of the job that measures the dispatch; at most 4096,
            since each is a range.
        sources: bytes that each function works on, in `turns` rounds.
        patterns: the patterns to search for.
    """

    size: int
    rounds: int
    calls: int
    chunks: int
    sources: tuple[int, ...]
    turns: int
    patterns: tuple[Pattern, ...] = PATTERNS


FULL = Effort(size=1 << 30, rounds=9, calls=300, chunks=4096, sources=(256 << 20, 1 << 30), turns=5)
QUICK = Effort(
    size=16 << 20, rounds=5, calls=20, chunks=512, sources=(4 << 20,), turns=1, patterns=PATTERNS[:1]
)


class Report:
    """Prints tables and stores them."""

    def __init__(self) -> None:
        """Begin with the machine."""
        self.machine = describe_machine()
        self.figures: list[Figure] = []
        for name, value in self.machine.items():
            print(f"{name + ':':<8} {value}")

    def add(self, title: str, figures: Iterable[Figure]) -> None:
        """Measure and print one table, with the load at its end."""
        found = list(figures)
        self.figures += found
        print(f"\n{title} (load {load()})\n{table(found)}", flush=True)

    def write(self, path: Path) -> None:
        """All tables as JSON."""
        whole = {"machine": self.machine, "figures": [figure.as_json() for figure in self.figures]}
        path.write_text(json.dumps(whole, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and imprecise, a check of the benchmark")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(argv)
    effort = QUICK if options.quick else FULL
    report = Report()
    with (
        temporary_directory("ktaskd-bench-") as directory,
        private_daemon(directory) as runtime,
        ktask.connect(runtime) as client,
    ):
        report.add("memory, idle", sizes(client, "idle"))
        report.add("a job that does nothing", round_trips(client, effort.calls, effort.rounds))
        report.add("dispatch", dispatch(client, effort.chunks, effort.rounds))
        report.add("two workers against one", speedups(client, directory, effort.size, effort.rounds))
        for source in effort.sources:
            title = f"one worker against a direct call of the library, and all workers, {source >> 20} MiB"
            report.add(title, throughputs(client, directory, source, effort.turns))
        title = "text.search by one worker against grep -E -c, by CPU time: the worst text for each pattern"
        report.add(title, searches(client, directory, effort.sources[0], effort.turns, effort.patterns))
        report.add(
            f"time until a cancelled job has ended, {effort.sources[-1] >> 20} MiB",
            cancels(client, directory, effort.sources[-1], effort.turns),
        )
        report.add("memory, after all measurements", sizes(client, "used"))
        # Last, since helpers give way to the other pool's processes, and for a while after them.
        report.add("calls by an executor", executors(runtime, effort.calls, effort.rounds))
    if options.json:
        report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
