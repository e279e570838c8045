"""Everything that workers are sent in the stories of `chaos`, line by line, and a digest for each.

The lines are the same in each run: jobs and workers have their ordinal numbers, and times are of the
loop that leaps. So two versions of the daemon can be compared, story by story:

    python -m tests.jobs.trace 7            print the lines of story 7
    python -m tests.jobs.trace --to DIR     write the lines of all stories into files
    python -m tests.jobs.trace --write      write the digests that the test compares with
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from functools import cache
from itertools import groupby
from pathlib import Path

from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from tests.jobs.chaos import SEEDS, tell
from tests.jobs.simulated import Simulation

DIGESTS = Path(__file__).parents[1] / "data" / "traces.json"

UNORDERED = ("forget", "kill", "recall")
"""Sent to several workers at the same moment, from a set: among them no order is kept."""

Sent = tuple[str, int, str, str]
"""When, to which worker, the verb, and what."""


def lines_of(seed: int) -> list[str]:
    """Everything that workers are sent in a story, and how its jobs end."""
    sent: list[Sent] = []
    sims: list[Simulation] = []

    def watch(sim: Simulation) -> None:
        sims.append(sim)
        began_s = sim.loop.time()
        sim.on_send = lambda worker, verb, what: sent.append(
            (f"{sim.loop.time() - began_s:.3f}", worker.id, verb, what)
        )

    tell(seed, watch)
    lines = [f"{when} worker {worker}: {verb} {what}".rstrip() for when, worker, verb, what in _ordered(sent)]
    return lines + [_end_of(job) for job in sims[0].jobs.values()]


def _ordered(sent: Iterable[Sent]) -> Iterator[Sent]:
    for (_, verb), run in groupby(sent, key=lambda one: (one[0], one[2])):
        same = list(run)
        yield from sorted(same) if verb in UNORDERED else same


def _end_of(job: Job) -> str:
    undone, dirty = (
        [(span.start, span.end) for span in spans] for spans in (job.positions.undone, job.positions.dirty)
    )
    reason = job.error.reason if job.error else "-"
    end = f"{job.state.value} {reason} undone {undone} dirty {dirty} result {job.result}"
    return f"job {job.jno}: {end} used {astuple(view.cpu(job))}"


def digest(lines: Iterable[str]) -> str:
    """Differs where any line does."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@cache
def committed() -> dict[int, str]:
    """The digest of each story, as it was recorded last."""
    return {int(seed): known for seed, known in json.loads(DIGESTS.read_text()).items()}


def main() -> None:
    """Print, or write."""
    parser = argparse.ArgumentParser(prog="python -m tests.jobs.trace", description=__doc__.splitlines()[0])
    parser.add_argument("seed", nargs="*", type=int, help="the stories to be printed")
    parser.add_argument("--write", action="store_true", help=f"write {DIGESTS.name}")
    parser.add_argument("--to", type=Path, help="a directory for a file of each story")
    asked = parser.parse_args()
    for seed in asked.seed:
        print(*lines_of(seed), sep="\n")
    if asked.to:
        asked.to.mkdir(parents=True, exist_ok=True)
        for seed in range(SEEDS):
            (asked.to / f"{seed:02}.txt").write_text("\n".join(lines_of(seed)) + "\n")
    if asked.write:
        digests = {seed: digest(lines_of(seed)) for seed in range(SEEDS)}
        DIGESTS.write_text(json.dumps(digests, indent=0) + "\n")


if __name__ == "__main__":
    main()
