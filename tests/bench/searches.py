"""Measure text.search against `grep -E -c`, by CPU time, on lines that match more or less often.

    python -m tests.bench.searches [--size MIB] [--rounds N] [--all] [PATTERN ...]

prints the worst text of each pattern twice: for the function's body alone, and for a job of one worker of a
private daemon. grep runs as a process, in the locale C, on the same file in the page cache.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import ktask

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.model.function import Access
from ktaskd.worker.sources import Source
from tests.bench.lines import PATTERNS, Pattern, Text, texts
from tests.bench.measure import Figure, Goal, in_turn, ratios, table
from tests.functions.inprocess import Recorder
from tests.support.sources import facts_of
from tools.private import private_daemon, temporary_directory

GOAL = Goal(3, at_least=False)
GOAL_FROM = 8 << 20
"""Texts with fewer bytes have no goal: the cost of a job and a process is the larger part of theirs."""

SIZE_MAX = 16 << 20


def searches(
    client: ktask.Client, directory: Path, size: int, rounds: int, patterns: Sequence[Pattern]
) -> Iterator[Figure]:
    """The worst text of each pattern: by the body, and by a job."""
    for pattern in patterns:
        worst = Worst(directory, min(size, SIZE_MAX), rounds)
        yield from worst.figures(client, texts(pattern))


class Worst:
    """Finds the text with the largest time, as a multiple of grep's.

    Args:
        directory: for the file.
        size: of each text, in bytes; a text with a longer period has one period.
    """

    def __init__(self, directory: Path, size: int, rounds: int) -> None:
        self._path = directory / "lines"
        self._size = size
        self._rounds = rounds

    def figures(self, client: ktask.Client, grid: Iterable[Text]) -> Iterator[Figure]:
        """Two figures."""
        bodies = [(self.body(text), text) for text in grid if self.write(text)]
        figure, text = max(bodies, key=lambda body: body[0].spread.median)
        yield figure
        self.write(text)
        yield self.job(client, text)
        self._path.unlink()

    def write(self, text: Text) -> bool:
        """Write a text to the file; False if there is none."""
        block = text.block()
        if block is None:
            return False
        block *= (1 << 20) // len(block) + 1
        with self._path.open("wb") as file:
            for _ in range(max(1, self._size // len(block))):
                file.write(block)
        return True

    def body(self, text: Text) -> Figure:
        """The ratio of the body's time, in this process."""
        return self._figure(
            f"search {text.pattern.text}, body", text, partial(_body, text.pattern, self._path)
        )

    def job(self, client: ktask.Client, text: Text) -> Figure:
        """The ratio of the time of a job's worker."""
        return self._figure(
            f"search {text.pattern.text}, job", text, partial(_job, client, text.pattern, self._path)
        )

    def _figure(self, name: str, text: Text, way: partial[tuple[float, int]]) -> Figure:
        counts: set[int] = set()
        ours, grep = in_turn(
            self._rounds,
            partial(_seconds, way, counts),
            partial(_seconds, partial(_grep, text.pattern, self._path), counts),
        )
        assert len(counts) == 1, f"{text.pattern}: {text}: counted {counts}"
        size = self._path.stat().st_size
        speeds = [size / min(seconds) / (1 << 30) for seconds in (ours, grep)]
        words = "{}; {:.2f}, grep {:.2f} GiB/s".format(text, *speeds)
        return Figure(name, ratios(ours, grep), "", GOAL if size >= GOAL_FROM else None, words)


def _seconds(way: partial[tuple[float, int]], counts: set[int]) -> float:
    seconds, count = way()
    counts.add(count)
    return seconds


def _arg(pattern: Pattern) -> dict[str, str | bool | int]:
    return {"pattern": pattern.text, "regex": True, "ignore_case": pattern.ignore_case}


def _body(pattern: Pattern, path: Path) -> tuple[float, int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    source = Source(fd, facts_of(fd, own_offset=True, access=Access.READ))
    try:
        size = source.size()
        arg = {**_arg(pattern), "show": "count", "limit": 1000}
        context, body = Context(arg, {"data": source}, {}, (0, size), True), find("text.search")
        begin = time.thread_time()
        body.prepare(context)
        _, part = body.run(context, 0, size, Recorder())
        seconds = time.thread_time() - begin
    finally:
        source.close()
    assert part is not None
    return seconds, part["count"]


def _job(client: ktask.Client, pattern: Pattern, path: Path) -> tuple[float, int]:
    job = client.run("text.search", arg=_arg(pattern), data=path, max_threads=1)
    return job.cpu.lead_seconds + job.cpu.helper_seconds, int((job.result or {})["count"])


def _grep(pattern: Pattern, path: Path) -> tuple[float, int]:
    words = ["grep", "-a", "-E", "-c", *(["-i"] if pattern.ignore_case else [])]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # grep would end at the first match if its output were /dev/null.
    done = subprocess.run(
        [*words, pattern.grep or pattern.text, str(path)],
        env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(done.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.searches", description=__doc__)
    parser.add_argument("--size", type=int, default=16, metavar="MIB", help="of each text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="print every text, by the body alone")
    parser.add_argument("pattern", nargs="*", help="of the grid; all of them by default")
    options = parser.parse_args(argv)
    wanted = [one for one in PATTERNS if not options.pattern or one.text in options.pattern]
    found: list[Figure] = []
    with (
        temporary_directory("ktaskd-bench-") as directory,
        private_daemon(directory) as runtime,
        ktask.connect(runtime) as client,
    ):
        for pattern in wanted:
            worst = Worst(directory, options.size << 20, options.rounds)
            if options.all:
                found += [worst.body(text) for text in texts(pattern) if worst.write(text)]
            else:
                found += worst.figures(client, texts(pattern))
    print(table(found))
    last = max(found, key=lambda figure: figure.spread.median)
    print(f"\nworst: {last.name}: {last.spread.median:.2f} times grep, {last.about}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
