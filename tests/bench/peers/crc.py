"""file.crc32 of memory and of a file in the page cache, over the direct call in one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import ktask
from isal.isal_zlib import crc32

from tests.bench import direct
from tests.bench.interference.line import Line
from tests.bench.peers.contest import LIMIT_SHARE, Bench, Way, at_most, at_most_or_limit, contest, itself, mib
from tests.bench.plain import Helpers, helpers
from tools.showcase import make_file

MEMORY = {8 << 20: 4.0, 32 << 20: 1.2, 64 << 20: 0.9, 256 << 20: 0.65, 1 << 30: 0.57}
"""Goals by size in bytes."""
FILE = {8 << 20: 2.5, 32 << 20: 1.0, 64 << 20: 0.8, 256 << 20: 0.65, 1 << 30: 0.0}
"""As MEMORY; 0 = only the limit counts."""


def memory(bench: Bench) -> Iterator[Line]:
    """Lines for each size, each with the limit measured by two bare processes."""
    for size, goal in _sizes(bench, MEMORY):
        with ktask.memory(size) as region, helpers(2) as plain, memoryview(region) as view:
            path = bench.directory / "source"
            make_file(path, size)
            with path.open("rb") as stream:
                stream.readinto(view)
            path.unlink()
            plain.share(region.fileno())
            yield from _lines(bench, size, goal, partial(crc32, view), region, plain, "crc32")


def file(bench: Bench) -> Iterator[Line]:
    """The same of a file."""
    for size, goal in _sizes(bench, FILE):
        path = bench.directory / "source"
        make_file(path, size)
        direct.warm(path)
        with ktask.file(path) as source, helpers(2) as plain:
            plain.open(path)
            yield from _lines(bench, size, goal, partial(direct.file_crc32, path), source, plain, "read")
        path.unlink()


def _sizes(bench: Bench, goals: dict[int, float]) -> Iterator[tuple[int, float]]:
    yield from ((size, goal) for size, goal in goals.items() if size <= bench.size)


def _lines(
    bench: Bench,
    size: int,
    goal: float,
    alone: Callable[[], int],
    source: ktask.Memory | ktask.File,
    plain: Helpers,
    work: str,
) -> Iterator[Line]:
    def job() -> object:
        result = bench.client.run("file.crc32", data=source).result
        return result and result["crc32"]

    ways = {
        "ours": Way(job),
        "direct": Way(alone),
        "two bare": Way(partial(plain.time, work, size, 2), seconds=itself),
        "empty": Way(partial(_empty, bench.client)),
    }
    times = contest(bench.repeat, ways)
    over = times.median("direct")
    limit, extra = times.median("two bare") / over, times.median("empty") / over
    judged = at_most_or_limit(goal, limit, extra if goal else 0.0)
    about = times.about("ours", "direct", "empty")
    yield Line(mib(size), times.ratio("ours", "direct"), "", judged, about)
    about = f"{f'goal {at_most(goal)}, or' if goal else 'goal'} {LIMIT_SHARE} of this"
    yield Line(f"  {mib(size)}: two bare processes", times.ratio("two bare", "direct"), about=about)


def _empty(client: ktask.Client) -> None:
    """An empty job, which has no answer to compare."""
    client.run("selftest.noop")
