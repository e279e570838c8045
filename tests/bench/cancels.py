"""How long a job of each function takes to end after its cancel, its undo included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import ktask

from tests.bench.measure import Figure, Goal, Spread
from tests.bench.throughput import ALL, Case, Place, cases

GOAL_MS = 200.0


def cancels(client: ktask.Client, directory: Path, size: int, rounds: int) -> Iterator[Figure]:
    """The figures, one by one: from the request to the answer that the job has ended.

    Args:
        size: of each function's sources; a job that ends before the cancel is not counted.
    """
    place = Place(client, directory, size)
    try:
        for case in cases(place):
            found = [_stopped(client, case) for _ in range(rounds)]
            times = [seconds * 1e3 for seconds in found if seconds >= 0]
            about = f"{len(times)} of {rounds} were still at work {case.about}".rstrip()
            if times:
                yield Figure(
                    f"cancel {case.name}", Spread.of(times), "ms", Goal(GOAL_MS, at_least=False), about
                )
    finally:
        place.close()


def _stopped(client: ktask.Client, case: Case) -> float:
    """Seconds until the job has ended after its cancel; -1 if it had ended before."""
    job = case.submit(ALL)
    while True:
        seen = client.job(job)
        if seen.progress.chunks_done or seen.end_time is not None:
            break
        time.sleep(0.0005)
    begin = time.perf_counter()
    ended = client.cancel(job)
    seconds = time.perf_counter() - begin
    return seconds if ended.state in (ktask.JobState.CANCELLED, ktask.JobState.DIRTY) else -1.0
