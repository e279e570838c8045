"""Measures what a well-behaved client notices of each attack: `python -m tests.hostile`. Needs root.

Calm and attacked times take turns, so that other load on the machine affects both.
The exit status is 1 if the 99th percentile of the attacked calls is more than
three times the calm one and above 50 ms, if the attacked median is more than twice
the calm one, if a call failed, or if the daemon had more than 300 MiB. An attack by
70 programs is measured when all of them run, and compared with 70 programs that only
compute; both comparisons are printed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import psutil

from tests.hostile.attacked_daemon import BESIDE, neighbour_of, open_daemon
from tests.hostile.attacks import ATTACKS, Attack, Scene
from tests.hostile.going import going
from tests.hostile.neighbour import Neighbour
from tests.hostile.rudeness import MANY_COMPUTE, MANY_MIXTURE, rude_attacks
from tests.hostile.wire import record_good_call
from tests.support.real_daemon import connected
from tests.support.users import OtherUsers, reachable_directory

RATIO_MAX = 2.0
P99_RATIO_MAX = 3.0
P99_MS_MAX = 50.0
PEAK_MIB_MAX = 300

AFTER_S = 3.0
"""Time for the daemon to give memory back."""


def resident_mib(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss >> 20


class Peak(threading.Thread):
    """Measure the most memory that a process has while the block runs, in MiB."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="peak")
        self.mib = 0
        self._pid = pid
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.mib = max(self.mib, resident_mib(self._pid))

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


@dataclass
class Row:
    """The times of the neighbour's calls during one attack and without it, ms."""

    name: str
    calm: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    rounds: int = 0
    peak_mib: int = 0
    after_mib: int = 0
    like: Row | None = None
    """The same number of programs that use as much CPU time and leave the daemon alone, so that only the
    kernel's scheduler makes the difference. None: the attack is one program, which costs almost nothing."""
    errors: list[str] = field(default_factory=list)

    def p99(self, times: list[float]) -> float:
        return sorted(times)[int(len(times) * 0.99)]

    @property
    def missed(self) -> bool:
        calm = self.like.beside if self.like else self.calm
        limit_ms = max(P99_RATIO_MAX * self.p99(calm), P99_MS_MAX)
        slow = self.p99(self.beside) > limit_ms or self._ratio_to(calm) > RATIO_MAX
        return slow or bool(self.failed) or self.peak_mib > PEAK_MIB_MAX

    @property
    def ratio(self) -> float:
        return self._ratio_to(self.calm)

    def _ratio_to(self, calm: list[float]) -> float:
        return statistics.median(self.beside) / statistics.median(calm)

    @property
    def failed(self) -> int:
        return self.beside.count(math.inf) + self.calm.count(math.inf)

    def more(self) -> Iterator[str]:
        """Return further lines."""
        if self.like is not None:
            ratio, p99 = self._ratio_to(self.like.beside), self.p99(self.like.beside)
            yield f"against {self.like.name}: ratio {ratio:.2f}, p99 {p99:.2f} ms there"
        yield from (f"failed: {error}" for error in self.errors)

    def __str__(self) -> str:
        p99 = [self.p99(times) for times in (self.calm, self.beside)]
        medians = [statistics.median(times) for times in (self.calm, self.beside)]
        return (
            f"{self.name:<40} {medians[0]:>8.2f} {medians[1]:>9.2f} {self.ratio:>6.2f}"
            f" {p99[0]:>9.2f} {p99[1]:>9.2f} {max(self.beside):>8.1f} {len(self.beside):>7} {self.failed:>6}"
            f" {p99[1] / p99[0]:>6.2f} {self.peak_mib:>5} {self.after_mib:>6}{'  MISSED' * self.missed}"
        )


HEAD = (
    f"{'beside':<40} {'calm ms':>8} {'beside ms':>9} {'ratio':>6} {'calm p99':>9} {'p99 ms':>9}"
    f" {'max ms':>8} {'calls':>7} {'failed':>6} {'p99 x':>6} {'peak':>5} {'after':>6}"
)


def measure(name: str, attack: Attack, scene: Scene, neighbour: Neighbour, turns: int, turn_s: float) -> Row:
    """Measure calm and attacked times in turn."""
    row = Row(name)
    for _ in range(turns):
        row.calm += neighbour.times(turn_s / 2)
        with Peak(scene.daemon.process.pid) as peak, going(attack, scene) as thread:
            row.beside += neighbour.times(turn_s)
        row.rounds += thread.rounds
        row.peak_mib = max(row.peak_mib, peak.mib)
        row.calm += neighbour.times(turn_s / 2)
    row.errors, neighbour.errors = neighbour.errors, []
    time.sleep(AFTER_S)
    row.after_mib = resident_mib(scene.daemon.process.pid)
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line for each attack."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="calm and attacked, so often each")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a turn")
    parser.add_argument("--only", default="", help="attacks with this in their name")
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        run_as = OtherUsers(stack.enter_context(reachable_directory()))
        daemon = stack.enter_context(open_daemon())
        stubs = stack.enter_context(connected(daemon.socket))
        neighbour = stack.enter_context(neighbour_of(daemon, run_as))
        scene = Scene(daemon, stubs, record_good_call(daemon), run_as)
        before = resident_mib(daemon.process.pid)
        print(f"noops of uid {BESIDE}, one after the other; the daemon has {before} MiB\n{HEAD}", flush=True)
        rows: dict[str, Row] = {}
        for name, attack in {**ATTACKS, **rude_attacks()}.items():
            if options.only in name:
                row = rows[name] = measure(name, attack, scene, neighbour, options.turns, options.seconds)
                row.like = rows.get(MANY_COMPUTE) if name == MANY_MIXTURE else None
                print(row, *row.more(), sep="\n    ", flush=True)
    missed = [row.name for row in rows.values() if row.missed and not row.name.startswith("(")]
    print(f"missed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
