"""Row 2: how late a periodic thread wakes up next to busy helpers.

Threads that may run anywhere and threads pinned to each CPU are both measured:
the kernel may place the first where no helper runs, but the second cannot
escape the helper on their CPU and show whether it is pre-empted at once. The
background reads memory, so that it also takes the caches.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence

import ktask

from tests.bench.interference import beside
from tests.bench.interference.bench import Bench
from tests.bench.interference.beside import Beside
from tests.bench.interference.line import Line
from tests.bench.interference.notinway import ALONE, AUTO, OURS, POOL, XARGS, usable
from tests.bench.interference.private_daemon import PrivateDaemon, private_daemon, work_memory
from tests.bench.interference.programs import Unmeasured
from tests.bench.interference.rivals import cpus
from tests.bench.interference.rounds import interleaved, percentile, quotients
from tests.bench.measure import Goal, Spread

LATE = Goal(1.2, at_least=False)
SHARES: Mapping[str, float] = {"median": 0.5, "p99": 0.99, "p99.9": 0.999}

_WINDOWS = 4
"""The window is this many times the usual one: 20 s are 20000 wake-ups of each thread."""

ANYWHERE, PINNED = "any CPU", "pinned"
Figures = dict[tuple[str, str], float]
"""Microseconds by place and share."""


def measure(bench: Bench) -> Iterator[Line]:
    """Measure next to nothing, next to our helpers, and next to plain processes."""
    with private_daemon(bench.directory, "row2") as home, work_memory() as memory:
        ways, without = usable(home, _backgrounds(home, memory), memory)
        program = str(bench.program("wakes"))
        seconds = bench.seconds * _WINDOWS
        found = interleaved(
            bench.repeat, {name: _window(program, seconds, way) for name, way in ways.items()}
        )
    yield from _lines(found)
    for line in without:
        yield Line(f"beside {line.name}", why=line.why)


def _backgrounds(home: PrivateDaemon, memory: ktask.Memory) -> Mapping[str, Beside]:
    what = beside.reading(memory)
    return {
        ALONE: beside.nothing,
        OURS: beside.ours(home, "always", memory),
        AUTO: beside.ours(home, "auto", memory),
        XARGS: beside.xargs(what),
        POOL: beside.pool(what),
    }


def _window(program: str, seconds: float, way: Beside) -> Callable[[], Figures]:
    words = [program, str(seconds), *map(str, cpus())]

    def run() -> Figures:
        with way():
            done = subprocess.run(words, check=False, capture_output=True, text=True, start_new_session=True)
        if done.returncode:
            raise Unmeasured(f"wakes: exit status {done.returncode}: {done.stderr.strip()}")
        return parse_wakes(done.stdout)

    return run


def parse_wakes(text: str) -> Figures:
    """Percentiles of the output of `wakes.c`; pinned threads are taken together."""
    late: dict[str, list[int]] = {ANYWHERE: [], PINNED: []}
    for line in text.splitlines():
        cpu, *values = map(int, line.split())
        late[ANYWHERE if cpu < 0 else PINNED] += values
    return {
        (place, name): percentile(values, share) / 1e3
        for place, values in ((place, sorted(values)) for place, values in late.items())
        for name, share in SHARES.items()
    }


def _lines(found: Mapping[str, Sequence[Figures]]) -> Iterator[Line]:
    alone = found[ALONE]
    for place in (ANYWHERE, PINNED):
        for share in SHARES:
            key = place, share
            yield Line(f"{place}, {share}, alone", tuple(each[key] for each in alone), "us")
        for name, windows in found.items():
            if name == ALONE:
                continue
            for share in SHARES:
                key = place, share
                these = [each[key] for each in windows]
                ratio = quotients(these, [each[key] for each in alone])
                goal = LATE if name in (OURS, AUTO) else None
                about = f"{Spread.of(these).median:.1f} us"
                yield Line(f"{place}, {share}, beside {name}", ratio, "", goal, about)
