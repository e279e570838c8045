"""Empty jobs, over bare calls of grpc.aio: one after the other, and from four programs at the same time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.bench.interference.line import Line
from tests.bench.peers.contest import Bench, Way, against, at_most, contest, itself

PROGRAMS = 4


def one(bench: Bench) -> Iterator[Line]:
    """A program that makes one call after the other."""
    yield _calls(bench, 1, bench.calls // 10, "an empty job over a bare call", 2.0)


def many(bench: Bench) -> Iterator[Line]:
    """Four programs that make their calls at the same time."""
    name = f"{bench.calls} empty jobs of {PROGRAMS} programs over bare calls"
    yield _calls(bench, PROGRAMS, bench.calls // PROGRAMS, name, 2.5)


def _calls(bench: Bench, programs: int, calls: int, name: str, goal: float) -> Line:
    with contextlib.ExitStack() as end:
        socket = bench.directory / "bare"
        end.enter_context(_program("serve", str(socket)))
        ways = {}
        for kind, target in (("job", bench.runtime), ("bare", f"unix:{socket}")):
            callers = [end.enter_context(_program(kind, target, str(calls))) for _ in range(programs)]
            ways[kind] = Way(partial(_all, callers), seconds=itself)
        times = contest(bench.repeat, ways)
    line = against(times, "job", ["bare"], at_most(goal), name)
    each = ", ".join(f"{kind} {times.median(kind) / calls * 1e6:.0f} us" for kind in ("job", "bare"))
    return Line(line.name, line.values, "", line.goal, f"{each} for each call of a program")


@contextlib.contextmanager
def _program(kind: str, target: str, calls: str = "0") -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "tests.bench.peers.calling", kind, target, calls]
    root = Path(__file__).parents[3]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=root) as process:
        _hear(process)
        yield process  # the end of its input ends it


def _all(callers: Sequence[subprocess.Popen[str]]) -> float:
    begin = time.perf_counter()
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write("go\n")
        caller.stdin.flush()
    for caller in callers:
        _hear(caller)
    return time.perf_counter() - begin


def _hear(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != "done\n":
        raise RuntimeError("a program that makes calls has failed")
