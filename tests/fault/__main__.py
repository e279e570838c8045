"""Run jobs with known results while workers and pool hosts are killed; exit status 1 on any violation."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fault import campaign
from tests.fault.campaign import Report
from tests.fault.works import MAKERS, OWN

STATES = ("SUCCEEDED", "FAILED", "CANCELLED", "DIRTY")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaigns, of all functions and of the caller's own code, and print what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    count = parser.add_mutually_exclusive_group()
    count.add_argument("--each", type=int, default=200, help="jobs of each function (200)")
    count.add_argument("--jobs", type=int, help="jobs in all instead")
    parser.add_argument("--seed", type=int, default=None, help="as printed by another run")
    options = parser.parse_args(argv)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    wrong = False
    for functions in (MAKERS, OWN):
        jobs = options.each * len(functions) if options.jobs is None else options.jobs
        report = campaign.run(jobs, seed, functions)
        print(format_report(report), flush=True)
        if report.violations:
            log = Path(tempfile.gettempdir()) / f"ktaskd-fault-{seed}-{len(functions)}.log"
            log.write_text(report.log)
            print(f"log of the daemon: {log}")
            wrong = True
    return int(wrong)


def format_report(report: Report) -> str:
    """The report as a table and a few lines."""
    kinds = sorted({kind for kind, _ in report.endings})
    lines = [f"{'job':<16}" + "".join(f"{state.lower():>11}" for state in STATES)]
    for kind in kinds:
        counts = [report.endings[kind, state] for state in STATES]
        lines.append(f"{kind:<16}" + "".join(f"{count or '.':>11}" for count in counts))
    totals = [sum(report.endings[kind, state] for kind in kinds) for state in STATES]
    lines.append(f"{'all':<16}" + "".join(f"{total:>11}" for total in totals))
    least = min(report.functions.values(), default=0)
    lines += [
        "",
        f"{len(report.functions)} functions, at least {least} jobs of each",
        f"{report.held} workers were struck while they held a chunk or a step"
        f" ({report.missed} strikes came too late and were withdrawn):",
        f"  from outside: {_counts(report.landed)}",
        f"  at a fault point: {_counts(_words(report.fired, 1))}",
        f"    where: {_counts(_words(report.fired, 0))}",
        f"pool hosts struck: {_counts(report.hosts)}",
        f"workers that stood still: {_counts(report.copes)}",
        *(
            f"an idle {what} that is killed is replaced in {statistics.median(seconds):.2f} s"
            f" (median of {len(seconds)}, {max(seconds):.2f} at most)"
            for what, seconds in report.recovery.items()
        ),
        f"chunks run again: {report.rerun}; errors: {_counts(report.reasons)}",
        f"after and before: {_differences(report.before, report.after)}",
        f"{report.seconds:.0f} s, seed {report.seed}",
        f"{len(report.violations)} violations",
        *(f"  {what}" for what in report.violations),
    ]
    return "\n".join(lines)


def _words(counter: Counter[str], i: int) -> Counter[str]:
    """Counts by one word of the names."""
    found: Counter[str] = Counter()
    for name, count in counter.items():
        found[name.split()[i]] += count
    return found


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"


def _differences(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    changed = [
        f"{name} {after.get(name, 0)} ({was})" for name, was in before.items() if after.get(name, 0) != was
    ]
    return f"{len(before) - len(changed)} figures the same; {', '.join(changed) or 'none differs'}"


if __name__ == "__main__":
    sys.exit(main())
