"""Compare ktask.Executor and its joblib backend with loky and ProcessPoolExecutor, in one run.

All take turns in each round. A ratio is that of one round; the figure is the median of the ratios.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import ktask

from tests.bench.executors.peers import figures, rows
from tests.bench.machine import load
from tests.bench.measure import table
from tools.private import private_daemon, temporary_directory


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.executors", description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, metavar="N", help="rounds (default 7)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name contains this")
    options = parser.parse_args(argv)
    with (
        temporary_directory("ktaskd-bench-") as directory,
        private_daemon(directory) as runtime,
        ktask.connect(runtime) as client,
        rows(runtime) as every,
    ):
        daemon = client.status().pid
        for row in every:
            if options.only in row.name:
                found = list(figures(row, options.repeat, daemon))
                print(f"\n{row.name} (load {load()})\n{table(found)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
