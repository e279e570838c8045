"""Compare waited jobs with the same work in as many processes of the caller, at the same time.

Run as: pace.py COUNT SECONDS ROUNDS. Prints two quotients for each round: of the wall times until the
last one has ended, and of the CPU time per second, of the daemon and its leads by that of the
processes. The first includes the daemon's own work, which is little on a real machine and as much as
that of a lead on an emulated one. The clients start before the rivals, since starting next to them
takes long.
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
    """Use this much CPU time in this process."""
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass


def work(seconds: float, rounds: int, barrier: Barrier, took: Any, i: int) -> None:
    """Run the job and then the work, each at the same moment as the others; `took` is shared with them."""
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
    """Start the clients, and print the results."""
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
    """Starts the rivals when all clients wait for the first time, and ends them at the last."""

    def __init__(self, turns: int) -> None:
        """Store how often the clients will wait."""
        self._turns = turns
        self._turn = multiprocessing.get_context("spawn").Value("i", 0)

    def __call__(self) -> None:
        """Called by one of the clients each time that all wait."""
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
