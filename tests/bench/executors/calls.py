"""The cost of a call by ktask.Executor and by ProcessPoolExecutor, in one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import ktask

from tests.bench.measure import Figure, Spread, in_turn

WORKERS = len(os.sched_getaffinity(0))
LARGE = bytes(1 << 20)
IDLE_S = 1.0
"""The pause before a call that is measured."""


def nothing(*_: Any) -> None:
    """The function to call."""


def same(given: bytes) -> bytes:
    """The function to call with large data in both directions."""
    return given


def executors(runtime: str, calls: int, rounds: int) -> Iterator[Figure]:
    """Microseconds of a call, and milliseconds until the first one of a new executor is done.

    Args:
        runtime: directory of a daemon.
        calls: number of calls in each turn of each round.
    """
    # A pool that forks must not be made in a process with threads, which we have by now.
    spawn = get_context("forkserver")
    makers: list[Callable[[], Executor]] = [
        lambda: ktask.Executor(WORKERS, target=runtime),
        lambda: ProcessPoolExecutor(WORKERS, mp_context=spawn),
    ]
    with makers[0]() as ours, makers[1]() as theirs:
        for name, way in (
            ("submit, and wait for it", one_by_one),
            ("submit all, then wait", all_at_once),
            ("map", by_map),
            ("map, chunksize 100", by_pieces),
            ("1 MiB there and back", much),
        ):
            found = in_turn(rounds, partial(way, ours, calls), partial(way, theirs, calls))
            yield from _pair(name, "us", [[1e6 * each for each in times] for times in found])
        found = in_turn(rounds, partial(after_idle, ours), partial(after_idle, theirs))
        yield from _pair(f"after {IDLE_S:g} s without one", "us", [[1e6 * t for t in ts] for ts in found])
    found = in_turn(rounds, *(partial(first, make) for make in makers))
    yield from _pair("made, first call, shutdown", "ms", [[1e3 * each for each in times] for times in found])


def _pair(name: str, unit: str, found: list[list[float]]) -> Iterator[Figure]:
    ours, theirs = map(Spread.of, found)
    about = f"{theirs.median / ours.median:.2f} times as fast"
    yield Figure(f"{name}, ktask.Executor", ours, unit, about=about)
    yield Figure(f"{name}, ProcessPoolExecutor", theirs, unit)


def one_by_one(executor: Executor, calls: int) -> float:
    """Seconds of a call, if each begins when the previous one is done."""
    return _each(calls, lambda: [executor.submit(nothing, i).result() for i in range(calls)])


def all_at_once(executor: Executor, calls: int) -> float:
    """Seconds of a call."""

    def work() -> None:
        for future in [executor.submit(nothing, i) for i in range(calls)]:
            future.result()

    return _each(calls, work)


def by_map(executor: Executor, calls: int) -> float:
    """Seconds of an item."""
    return _each(calls, lambda: list(executor.map(nothing, range(calls))))


def by_pieces(executor: Executor, calls: int) -> float:
    """Seconds of an item, with many items in a call."""
    return _each(100 * calls, lambda: list(executor.map(nothing, range(100 * calls), chunksize=100)))


def much(executor: Executor, calls: int) -> float:
    """Seconds of a call with a megabyte in each direction."""
    count = max(calls // 10, 1)
    return _each(count, lambda: list(executor.map(same, [LARGE] * count)))


def after_idle(executor: Executor) -> float:
    """Seconds of one call after a pause."""
    time.sleep(IDLE_S)
    return _each(1, lambda: executor.submit(nothing).result())


def first(make: Callable[[], Executor]) -> float:
    """Seconds from nothing to the first result and to the end again."""

    def work() -> None:
        with make() as executor:
            executor.submit(nothing).result()

    return _each(1, work)


def _each(count: int, work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) / count
