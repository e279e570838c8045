"""Times waited jobs against the same work in as many processes of one's own, at the same time.

Run as: pace.py COUNT SECONDS ROUNDS. Prints for each round the quotient of the wall times until the
last has ended, and that of the CPU time which the daemon and its leads had in a second of it, and
one's own processes. The first contains what the daemon takes for itself, which is little on a real
machine and as much as a lead takes on an emulated one. The clients are there before the rivals
come: to start one takes long beside them.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from typing import Any

import ktask

from .kit import CGROUPS, DAEMON, spinners, usage_s


def alone(seconds: float) -> None:
    """Use so much CPU time in this process."""
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass


def work(seconds: float, rounds: int, barrier: Barrier, took: Any, i: int) -> None:
    """Both, one after the other, at the same moment as the others, with which `took` is shared."""
    with ktask.connect("/run/ktaskd/ktaskd.sock") as client:
        client.run("selftest.noop")
        for k in range(rounds):
            barrier.wait()
            begin_s, used_s = time.monotonic(), usage_s(DAEMON)
            client.run("selftest.spin", arg={"ms": seconds * 50}, ranges=[(0, 20)])
            took[0][k * barrier.parties + i] = time.monotonic() - begin_s
            took[2][k * barrier.parties + i] = usage_s(DAEMON) - used_s
            barrier.wait()
            begin_s = time.monotonic()
            alone(seconds)
            took[1][k * barrier.parties + i] = time.monotonic() - begin_s
        barrier.wait()


def main() -> None:
    """Start them, and print."""
    count, seconds, rounds = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(count, action=Rivals(2 * rounds + 1))
    took = [spawn.Array("d", count * rounds) for _ in range(3)]
    started = [spawn.Process(target=work, args=(seconds, rounds, barrier, took, i)) for i in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    for k in range(rounds):
        jobs_s, own_s, used_s = (max(one[k * count : (k + 1) * count]) for one in took)
        print(jobs_s / own_s, (used_s / jobs_s) / (count * seconds / own_s))


class Rivals:
    """Starts the rivals when all clients wait for the first time, ends them at the last."""

    def __init__(self, turns: int) -> None:
        """Know how often there will be something to do."""
        self._turns = turns
        self._turn = multiprocessing.get_context("spawn").Value("i", 0)

    def __call__(self) -> None:
        """Called by one of the clients, at each turn, while all others wait."""
        self._turn.value += 1
        if self._turn.value == 1:
            words = ["--unit=rival", "--slice=user.slice", *spinners((0, 1, 2, 3))]
            subprocess.run(["systemd-run", "--quiet", *words], check=True)
            while usage_s(CGROUPS / "user.slice/rival.service") < 1.0:
                time.sleep(0.1)
        if self._turn.value == self._turns:
            subprocess.run(["systemctl", "stop", "rival"], check=True)


if __name__ == "__main__":
    main()
