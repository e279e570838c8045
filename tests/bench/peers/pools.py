"""The executor and joblib's backend, over ProcessPoolExecutor and loky."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

import joblib
import ktask
import ktask.joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor

from tests.bench.interference.line import Line
from tests.bench.peers.contest import Bench, Way, against, at_most, contest

WORKERS = 2
TASKS = 8
GOALS = {1: 1.0, 500: 1.2}
"""By chunk size: time of `map` over that of ProcessPoolExecutor."""


def small(number: int) -> int:
    """The function of a small call."""
    return number + 1


def part(array: np.ndarray, number: int) -> float:
    """The function of a task on a part of a large array."""
    return float(array[number::TASKS].sum())


def maps(bench: Bench) -> Iterator[Line]:
    """`map` of many small calls, with two chunk sizes."""
    spawn = get_context("forkserver")
    with (
        ktask.Executor(WORKERS, target=bench.runtime) as ours,
        ProcessPoolExecutor(WORKERS, mp_context=spawn) as theirs,
    ):
        loky = get_reusable_executor(WORKERS)
        pools: dict[str, Executor] = {"ours": ours, "ProcessPoolExecutor": theirs, "loky": loky}
        for chunksize, goal in GOALS.items():
            ways = {name: Way(_Map(pool, bench.calls, chunksize)) for name, pool in pools.items()}
            times = contest(bench.repeat, ways)
            name = f"map of {bench.calls} calls, chunksize {chunksize}, over"
            bound = at_most(goal)
            yield against(times, "ours", ["ProcessPoolExecutor"], bound, f"{name} ProcessPoolExecutor")
            yield against(times, "ours", ["loky"], at_most(1.0), f"{name} loky")
        loky.shutdown()


class _Map:
    """One use of a pool's `map`."""

    def __init__(self, pool: Executor, calls: int, chunksize: int) -> None:
        self._pool, self._calls, self._chunksize = pool, calls, chunksize

    def __call__(self) -> int:
        return sum(self._pool.map(small, range(self._calls), chunksize=self._chunksize))


def arrays(bench: Bench) -> Iterator[Line]:
    """joblib with one large array as the argument of all tasks."""
    ktask.joblib.register()
    array = np.arange(min(320 << 20, bench.size) // 8, dtype=np.float64)

    def run(backend: str, **options: str) -> float:
        with joblib.parallel_config(backend=backend, n_jobs=WORKERS, **options):
            return float(sum(joblib.Parallel()(joblib.delayed(part)(array, i) for i in range(TASKS))))

    ways = {"ktask": Way(lambda: run("ktask", target=bench.runtime)), "loky": Way(lambda: run("loky"))}
    times = contest(bench.repeat, ways)
    name = f"joblib, {TASKS} tasks on one array of {array.nbytes >> 20} MiB, over loky"
    yield against(times, "ktask", ["loky"], at_most(1.0), name)
    get_reusable_executor().shutdown()
