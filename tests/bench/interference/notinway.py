"""Row 1: not in the way. The part of the CPU that rivals keep next to a busy background."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping

import ktask

from tests.bench.interference import beside
from tests.bench.interference.bench import Bench, attempt
from tests.bench.interference.beside import Beside
from tests.bench.interference.groups import Group, group
from tests.bench.interference.line import Line, number
from tests.bench.interference.private_daemon import PrivateDaemon, private_daemon
from tests.bench.interference.programs import Unmeasured, needed
from tests.bench.interference.rivals import Got, Rivals, cpus, rivals
from tests.bench.interference.rounds import interleaved, quotients
from tests.bench.measure import Goal, Spread

KEPT = Goal(0.98, at_least=True)
QUIET = Goal(0.95, at_least=True)
"""The part that rivals must get alone; with less the machine is not idle, and no figure counts."""
SLOWER = Goal(1.02, at_least=False)
_CALIBRATION_OPS = 20
_ONCE_S = 0.2

ALONE, OURS, AUTO = "alone", "our helpers", "our helpers, mode auto"
XARGS, NICE, POOL = "nice 19 xargs -P", "plain at nice 19", "ProcessPoolExecutor"

Window = tuple[Got, float]
"""The CPU time of the rivals, and of the background."""


def measure(bench: Bench) -> Iterator[Line]:
    """Measure rivals in another session, in another cgroup, and stress-ng."""
    with private_daemon(bench.directory, "row1") as home:

        def in_group() -> Iterator[Line]:
            with group("rivals") as place:
                yield from _kept(bench, home, "another cgroup", place)

        yield from attempt("another session", lambda: _kept(bench, home, "another session", None))
        yield from attempt("another cgroup", in_group)
        yield from attempt("stress-ng", lambda: _stress(bench, home))


def backgrounds(home: PrivateDaemon) -> Mapping[str, Beside]:
    """All candidates, in the order of a round."""
    return {
        ALONE: beside.nothing,
        OURS: beside.ours(home, "always"),
        AUTO: beside.ours(home, "auto"),
        XARGS: beside.xargs(),
        NICE: beside.pool(nice=19),
        POOL: beside.pool(),
    }


def usable(
    home: PrivateDaemon, given: Mapping[str, Beside], memory: ktask.Memory | None = None
) -> tuple[Mapping[str, Beside], list[Line]]:
    """The candidates that this daemon supports, and a line for each other; OURS then has the existing mode.

    Args:
        memory: read by our helpers; None = they burn CPU time.
    """
    try:
        home.set_mode("always")
    except Unmeasured as error:
        left = {name: way for name, way in given.items() if name != AUTO}
        return {**left, OURS: beside.ours(home, "", memory)}, [Line(AUTO, why=str(error))]
    return given, []


def _kept(bench: Bench, home: PrivateDaemon, where: str, place: Group | None) -> Iterator[Line]:
    with rivals(bench.program("rival"), len(cpus()), group=place) as them:
        ways, without = usable(home, backgrounds(home))
        found = interleaved(bench.repeat, {name: _window(bench, them, way) for name, way in ways.items()})
    yield from kept_lines(where, found, bench.seconds * len(cpus()), home.gives_way())
    for line in without:
        yield Line(f"{where}, beside {line.name}", why=line.why)


def _window(bench: Bench, them: Rivals, way: Beside) -> Callable[[], Window]:
    def run() -> Window:
        with way() as used:
            before = used()
            them.start(bench.seconds)
            got = them.collect()
            return got, used() - before

    return run


def kept_lines(
    where: str, found: Mapping[str, list[Window]], offered_s: float, gives_way: str
) -> Iterator[Line]:
    """The part that the rivals kept next to each candidate, of their time alone in the same round.

    Args:
        offered_s: CPU seconds that the machine had in one window.
    """
    alone = [got for got, _ in found[ALONE]]
    yield Line(f"{where}, alone", tuple(got.cpu_s / offered_s for got in alone), "of all CPUs", QUIET)
    for name, windows in found.items():
        if name == ALONE:
            continue
        goal = KEPT if name in (OURS, AUTO) else None
        share = Spread.of([used / offered_s for _, used in windows]).median
        about = f"these got {share:.1%} of the CPUs meanwhile"
        if name == OURS:
            about += f"; {gives_way}"
        cpu = quotients([got.cpu_s for got, _ in windows], [got.cpu_s for got in alone])
        done = quotients([got.iterations for got, _ in windows], [got.iterations for got in alone])
        yield Line(f"{where}, CPU time beside {name}", cpu, "", goal, about)
        yield Line(f"{where}, iterations beside {name}", done, "", goal)


# -- the ktask author's own test ----------------------------------------------------


def _stress(bench: Bench, home: PrivateDaemon) -> Iterator[Line]:
    """Measure the time of a fixed number of stress-ng's operations, one process for each CPU."""
    program = needed("stress-ng", "stress-ng")
    operations = _operations(program, bench.seconds)
    ways, without = usable(home, backgrounds(home))

    def timed(way: Beside) -> Callable[[], float]:
        def run() -> float:
            with way():
                return _run(program, operations)

        return run

    found = interleaved(bench.repeat, {name: timed(way) for name, way in ways.items()})
    alone = found.pop(ALONE)
    yield Line("stress-ng, alone", tuple(alone), "s", about=f"-c {len(cpus())} --cpu-ops {operations}")
    for name, seconds in found.items():
        ratio = quotients(seconds, alone)
        slower = f"{number((Spread.of(ratio).median - 1) * 100)}% slower; ktask's author: 1.3% beside "
        goal = SLOWER if name in (OURS, AUTO) else None
        his = "his helpers, 76% beside normal threads" if name in (OURS, AUTO, POOL) else ""
        about = slower + his if his else slower.partition(";")[0]
        yield Line(f"stress-ng, time beside {name}", ratio, "", goal, about)
    for line in without:
        yield Line(f"stress-ng, time beside {line.name}", why=line.why)


def _operations(program: str, seconds: float) -> int:
    """The number of operations that take about this long here."""
    count = _CALIBRATION_OPS
    while (took := _run(program, count)) < _ONCE_S:
        count *= 4
    return max(count, round(count * seconds / took))


def _run(program: str, operations: int) -> float:
    words = [program, "-c", str(len(cpus())), "--cpu-method", "ackermann"]
    words += ["--cpu-ops", str(operations), "--quiet"]
    begin = time.perf_counter()
    # In a session of its own, since in ours it would share a scheduling group with us.
    done = subprocess.run(words, check=False, capture_output=True, text=True, start_new_session=True)
    if done.returncode:
        raise Unmeasured(f"stress-ng: exit status {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - begin
