"""Times waited jobs against the same work in as many processes of one's own, at the same time.

Run as: pace.py COUNT SECONDS; prints the quotient of the wall times until the last has ended.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier
from typing import Any

import ktask


def alone(seconds: float) -> None:
    """Use so much CPU time in this process."""
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass


def work(seconds: float, barrier: Barrier, took: Any, i: int) -> None:
    """Both, one after the other, at the same moment as the others."""
    with ktask.connect("/run/ktaskd/ktaskd.sock") as client:
        client.run("selftest.noop")
        barrier.wait()
        begin_s = time.monotonic()
        client.run("selftest.spin", arg={"ms": seconds * 50}, ranges=[(0, 20)])
        took[2 * i] = time.monotonic() - begin_s
        barrier.wait()
        begin_s = time.monotonic()
        alone(seconds)
        took[2 * i + 1] = time.monotonic() - begin_s


def main() -> None:
    """Start them, and print."""
    count, seconds = int(sys.argv[1]), float(sys.argv[2])
    spawn = multiprocessing.get_context("spawn")
    barrier, took = spawn.Barrier(count), spawn.Array("d", 2 * count)
    started = [spawn.Process(target=work, args=(seconds, barrier, took, i)) for i in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    print(max(took[0::2]) / max(took[1::2]))


if __name__ == "__main__":
    main()
