"""How much faster two workers are than one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ktask

from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios
from tests.bench.plain import Helpers, helpers
from tools.showcase import make_file

GOAL = Goal(1.8, at_least=True)


def speedups(client: ktask.Client, directory: Path, size: int, rounds: int) -> Iterator[Figure]:
    """The figures, one by one.

    Args:
        directory: for a file; needs `size` bytes free there, and twice that in memory.
    """
    path = directory / "source"
    make_file(path, size)
    with ktask.file(path) as file:
        yield _figure("file.crc32, file", GOAL, rounds, lambda n: _crc32(client, file, n))
    with ktask.memory(size) as memory, helpers(2) as plain:
        memory[:] = path.read_bytes()
        path.unlink()
        yield _figure("file.crc32, memory", GOAL, rounds, lambda n: _crc32(client, memory, n))
        plain.share(memory.fileno())
        yield _figure("  plain processes", None, rounds, lambda n: plain.time("crc32", size, n))
        yield _figure("mem.fill, present memory", GOAL, rounds, lambda n: _fill(client, memory, n))
        yield _figure("  plain processes", None, rounds, lambda n: plain.time("fill", size, n))
        yield _figure("mem.fill, new memory", GOAL, rounds, lambda n: _fill_new(client, size, n))
        yield _figure("  plain processes", None, rounds, lambda n: _plain_fill_new(plain, size, n))


def _figure(name: str, goal: Goal | None, rounds: int, run: Callable[[int], float]) -> Figure:
    one, two = in_turn(rounds, lambda: run(1), lambda: run(2))
    return Figure(name, ratios(one, two), "", goal, _about(one, two))


def _about(one: Sequence[float], two: Sequence[float]) -> str:
    return f"1: {Spread.of(one).median * 1e3:.1f} ms, 2: {Spread.of(two).median * 1e3:.1f} ms"


def _timed(job: Callable[[], object]) -> float:
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def _crc32(client: ktask.Client, source: ktask.File | ktask.Memory, threads: int) -> float:
    return _timed(lambda: client.run("file.crc32", data=source, max_threads=threads))


def _fill(client: ktask.Client, memory: ktask.Memory, threads: int) -> float:
    return _timed(lambda: client.run("mem.fill", arg={"value": 7}, data=memory, max_threads=threads))


def _fill_new(client: ktask.Client, size: int, threads: int) -> float:
    with ktask.memory(size) as memory:
        return _fill(client, memory, threads)


def _plain_fill_new(plain: Helpers, size: int, count: int) -> float:
    fd = os.memfd_create("plain", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        plain.share(fd)
        return plain.time("fill", size, count)
    finally:
        os.close(fd)
