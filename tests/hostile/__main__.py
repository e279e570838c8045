"""What a well-behaved client notices of each attack: `python -m tests.hostile`. Needs root.

Calm and attacked take turns, so that a machine that is busy with other things
is so in both. Exit status 1 where the attacked median is more than twice the calm one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.hostile.attacks import ATTACKS, Attack, Scene, record_good_call
from tests.hostile.going import going
from tests.hostile.neighbour import Neighbour
from tests.hostile.rig import BESIDE, neighbour_of, open_daemon
from tests.integration.rig import connected
from tests.support.users import OtherUsers, reachable_directory

RATIO_MAX = 2.0


@dataclass
class Row:
    """One attack: what the neighbour's calls took, ms."""

    name: str
    calm: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    rounds: int = 0

    @property
    def ratio(self) -> float:
        return statistics.median(self.beside) / statistics.median(self.calm)

    @property
    def failed(self) -> int:
        return self.beside.count(math.inf) + self.calm.count(math.inf)

    def __str__(self) -> str:
        p99 = [sorted(times)[int(len(times) * 0.99)] for times in (self.calm, self.beside)]
        medians = [statistics.median(times) for times in (self.calm, self.beside)]
        return (
            f"{self.name:<36} {medians[0]:>8.2f} {medians[1]:>9.2f} {self.ratio:>6.2f}"
            f" {p99[0]:>9.2f} {p99[1]:>9.2f} {max(self.beside):>8.1f} {len(self.beside):>7} {self.failed:>6}"
            f" {self.rounds:>7}"
        )


HEAD = (
    f"{'beside':<36} {'calm ms':>8} {'beside ms':>9} {'ratio':>6} {'calm p99':>9} {'p99 ms':>9}"
    f" {'max ms':>8} {'calls':>7} {'failed':>6} {'rounds':>7}"
)


def measure(name: str, attack: Attack, scene: Scene, neighbour: Neighbour, turns: int, turn_s: float) -> Row:
    """Calm and attacked in turn."""
    row = Row(name)
    for _ in range(turns):
        row.calm += neighbour.times(turn_s / 2)
        with going(attack, scene) as thread:
            row.beside += neighbour.times(turn_s)
        row.rounds += thread.rounds
        row.calm += neighbour.times(turn_s / 2)
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
        scene = Scene(daemon, stubs, record_good_call(daemon))
        print(f"noops of uid {BESIDE}, one after the other, beside what uid 0 does\n{HEAD}", flush=True)
        rows = []
        for name, attack in ATTACKS.items():
            if options.only in name:
                rows.append(measure(name, attack, scene, neighbour, options.turns, options.seconds))
                print(rows[-1], flush=True)
    missed = [
        row.name for row in rows if (row.ratio > RATIO_MAX or row.failed) and not row.name.startswith("(")
    ]
    print(f"more than {RATIO_MAX:g} times, or a call that failed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
