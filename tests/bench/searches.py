"""text.search by one worker against `grep -E -c`, on lines that match more or less often."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import ktask

from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios

GOAL = Goal(3, at_least=False)
GOAL_FROM = 64 << 20
"""A goal only for texts of so many bytes: with less, what a job costs is the larger part."""

_EVERY = (1, 3, 100, 0)
_LENGTHS = (0, 3, 80)
_PATTERNS = ("a", "a7|b7", "[0-9]x*$")
_EMPTY = "^$"


def searches(client: ktask.Client, directory: Path, size: int, rounds: int) -> Iterator[Figure]:
    """The figures, as they come: how many times as long as grep a job of one worker takes."""
    path = directory / "lines"
    for length in _LENGTHS:
        for every in _EVERY if length else (1,):
            _write(path, length, every, size)
            for pattern in _PATTERNS if length else (_EMPTY, *_PATTERNS):
                yield _figure(client, path, pattern, rounds, f"lines of {length} bytes, {_often(every)}")
    path.unlink()


def _often(every: int) -> str:
    return f"one in {every} matches" if every else "none matches"


def _write(path: Path, length: int, every: int, size: int) -> None:
    """Lines that match the patterns for lines that are not empty, and lines that do not."""
    good, bad = (b"a7" + b"x" * length)[:length] + b"\n", b"c" * length + b"\n"
    block = good + bad * (every - 1) if every else bad
    block *= (1 << 20) // len(block) + 1
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])


def _figure(client: ktask.Client, path: Path, pattern: str, rounds: int, about: str) -> Figure:
    arg = {"pattern": pattern, "regex": True}
    job, grep = in_turn(
        rounds,
        partial(_timed, lambda: client.run("text.search", arg=arg, data=path, max_threads=1)),
        partial(_timed, lambda: _grep(pattern, path)),
    )
    size = path.stat().st_size
    speeds = [size / Spread.of(seconds).median / (1 << 30) for seconds in (job, grep)]
    words = "{}; one worker {:.2f}, grep {:.2f} GiB/s".format(about, *speeds)
    return Figure(f"search {pattern}", ratios(job, grep), "", GOAL if size >= GOAL_FROM else None, words)


def _grep(pattern: str, path: Path) -> None:
    words = ["grep", "-a", "-E", "-c", pattern, str(path)]
    # It would end at the first match if its output were /dev/null.
    subprocess.run(words, env={**os.environ, "LC_ALL": "C.UTF-8"}, stdout=subprocess.PIPE, check=False)


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
