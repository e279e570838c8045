"""Compare the cost of a job and of a chunk with an earlier commit, in one run.

    python -m tests.bench.before COMMIT [--rounds N]

The commit is checked out in a temporary directory. In each round both checkouts
measure themselves, each with a daemon, a client and a benchmark of its own, in turn.
A ratio is that of one round: this checkout's value over the earlier one's. The exit
status is 1 if the median of a ratio is above the goal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.machine import describe_machine, load
from tests.bench.measure import Figure, Goal, in_turn, ratios, table
from tools.private import temporary_directory

REPOSITORY = Path(__file__).resolve().parents[2]

GOAL = Goal(1.03, at_least=False)
"""The noise of a median of some rounds, on a machine that does nothing else."""

CALLS, CHUNKS = 500, 4096
"""Calls one after the other, and chunks of one job, in each turn."""

PROGRAM = """
import json, sys
import ktask
from tests.bench.calls import dispatch, round_trips
from tools.private import private_daemon, temporary_directory

calls, chunks = map(int, sys.argv[1:])
with temporary_directory("ktaskd-bench-") as place, private_daemon(place) as runtime:
    with ktask.connect(runtime) as client:
        figures = [*round_trips(client, calls, 1), *dispatch(client, chunks, 1)]
print(json.dumps({figure.name.strip(): figure.spread.median for figure in figures}))
"""
"""Runs in either checkout, with only its code; the earlier one has this benchmark as well."""


@contextlib.contextmanager
def checkout(commit: str, place: Path) -> Iterator[Path]:
    """Provide the files of a commit in `place`, and remove them again.

    Raises:
        CalledProcessError: there is no such commit.
    """
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(place), commit], check=True)
    try:
        yield place
    finally:
        subprocess.run([*git, "remove", "--force", str(place)], check=True)


def measured(root: Path, calls: int, chunks: int) -> dict[str, float]:
    """The figures of the checkout in `root`, by name."""
    paths = os.pathsep.join([str(root), str(root / "client")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(calls), str(chunks)],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=root,
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def compared(before: Sequence[Mapping[str, float]], now: Sequence[Mapping[str, float]]) -> Iterator[Figure]:
    """One line for each figure that both have, over all rounds."""
    for name in now[0]:
        if all(name in one for one in before):
            old, new = ([one[name] for one in side] for side in (before, now))
            yield Figure(
                name, ratios(new, old), "", GOAL, f"{min(old):.1f} before, {min(new):.1f} now, at best"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print one line for each figure; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.before", description=__doc__)
    parser.add_argument("commit", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=9, help="each measures itself this often (default: 9)")
    parser.add_argument("--quick", action="store_true", help="few calls and chunks, a check of this program")
    options = parser.parse_args(argv)
    calls, chunks = (20, 64) if options.quick else (CALLS, CHUNKS)
    known = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--quiet", "--verify", f"{options.commit}^{{commit}}"],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if known.returncode:
        parser.error(f"{options.commit}: no such commit in {REPOSITORY}")
    for name, value in describe_machine().items():
        print(f"{name + ':':<8} {value}")
    with temporary_directory("ktaskd-before-") as place, checkout(options.commit, place / "t") as earlier:
        before, now = in_turn(
            options.rounds,
            lambda: measured(earlier, calls, chunks),
            lambda: measured(REPOSITORY, calls, chunks),
        )
    figures = list(compared(before, now))
    print(f"\nthis checkout over {options.commit} (load {load()})\n{table(figures)}", flush=True)
    return int(any(figure.verdict == "MISS" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
