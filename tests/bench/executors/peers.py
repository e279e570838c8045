"""Rows of the table: the same work by ours, by loky and by the pool of the standard library."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import joblib
import ktask
import ktask.joblib
import numpy as np
from joblib.externals import loky
from ktask.link.locate import VARIABLE

from tests.bench.executors.memory import added
from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios

WORKERS = 2
ITEMS = 10_000
TASKS = 8
ARRAY_BYTES = 320_000_000

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """The same work by several.

    Args:
        goals: by the name of a peer: at most this many times its seconds.
        measures_memory: whether the memory of the work matters.
    """

    name: str
    ways: Mapping[str, Work]
    goals: Mapping[str, float]
    measures_memory: bool = False


def same(item: int) -> int:
    """The function of a small call."""
    return item


def total(array: np.ndarray, start: int) -> float:
    """The function of a call with a large array."""
    return float(array[start::TASKS].sum())


@contextlib.contextmanager
def rows(runtime: str) -> Iterator[list[Row]]:
    """All rows; their executors exist inside the block.

    Args:
        runtime: directory of a daemon of this user.
    """
    os.environ[VARIABLE] = runtime
    ktask.joblib.register()
    # A pool that forks must not be made in a process with threads, which we have by now.
    spawn = get_context("forkserver")
    with (
        ktask.Executor(WORKERS, target=runtime) as ours,
        loky.ProcessPoolExecutor(WORKERS) as lokys,
        ProcessPoolExecutor(WORKERS, mp_context=spawn) as theirs,
    ):
        everyone = {"ktask": ours, "loky": lokys, "ProcessPoolExecutor": theirs}
        array = np.random.default_rng(7).normal(size=ARRAY_BYTES // 8)
        yield [
            _small(everyone, 1, {"loky": 1.0, "ProcessPoolExecutor": 1.0}),
            _small(everyone, 500, {"loky": 1.2, "ProcessPoolExecutor": 1.2}),
            _by_joblib(array),
            _by_map(everyone, array),
        ]


def _small(everyone: Mapping[str, Executor], chunk: int, goals: Mapping[str, float]) -> Row:
    def work(executor: Executor) -> None:
        assert list(executor.map(same, range(ITEMS), chunksize=chunk)) == list(range(ITEMS))

    ways = {name: partial(work, one) for name, one in everyone.items()}
    return Row(f"map of {ITEMS} small calls, chunk size {chunk}", ways, goals)


def _by_joblib(array: np.ndarray) -> Row:
    def work(backend: str) -> None:
        tasks = (joblib.delayed(total)(array, i) for i in range(TASKS))
        with joblib.parallel_config(backend=backend, n_jobs=WORKERS):
            assert len(joblib.Parallel()(tasks)) == TASKS

    ways = {name: partial(work, name) for name in ("ktask", "loky")}
    return Row(f"joblib, {TASKS} tasks, an array of {ARRAY_BYTES // 10**6} MB", ways, {"loky": 1.0}, True)


def _by_map(everyone: Mapping[str, Executor], array: np.ndarray) -> Row:
    def work(executor: Executor) -> None:
        assert len(list(executor.map(total, [array] * TASKS, range(TASKS)))) == TASKS

    ways = {name: partial(work, one) for name, one in everyone.items()}
    return Row(f"map, {TASKS} calls, an array of {ARRAY_BYTES // 10**6} MB", ways, {}, True)


def figures(row: Row, repeat: int, daemon: int) -> Iterator[Figure]:
    """Seconds of each, our share of each other's, and the memory that the work adds.

    Args:
        daemon: its process.
    """
    names = list(row.ways)
    found = dict(
        zip(names, in_turn(repeat, *(partial(_seconds, row.ways[one]) for one in names)), strict=True)
    )
    for name in names:
        yield Figure(name, Spread.of([1e3 * each for each in found[name]]), "ms")
    for name in names[1:]:
        goal = Goal(row.goals[name], at_least=False) if name in row.goals else None
        yield Figure(f"  ktask / {name}", ratios(found["ktask"], found[name]), "", goal)
    if row.measures_memory:
        sizes = in_turn(repeat, *(partial(added, row.ways[one], daemon) for one in names))
        for name, values in zip(names, sizes, strict=True):
            yield Figure(
                f"  memory at the peak, {name}", Spread.of(values), "MiB", about="added to all processes"
            )


def _seconds(work: Work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
