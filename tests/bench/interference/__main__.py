"""Measure what ktaskd takes from other programs and what its jobs get, row by row.

A missed goal is a result and no failure: the exit status is 0 all the same.
A value that cannot be measured on this machine is a line that misses, with its reason.
Ratios come from one run, in interleaved rounds.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from ktask.cli.arguments import UsageError
from ktask.cli.arguments import size as parse_size

from tests.bench.interference import (
    foreground,
    harvest,
    idle,
    latency,
    neverstuck,
    notinway,
    power,
    quota,
)
from tests.bench.interference.bench import Bench, Row
from tests.bench.interference.plot import draw
from tests.bench.interference.report import Report
from tools import room
from tools.private import temporary_directory

ROWS: Mapping[int, tuple[str, Row]] = {
    1: ("not in the way", notinway.measure),
    2: ("wake-up latency of a 1 ms periodic thread, of that on the idle machine", latency.measure),
    3: ("never stuck: time of a waited job, of that in the client's own process", neverstuck.measure),
    4: ("harvest: what the job gets of what is idle", harvest.measure),
    5: ("power, on a machine of files, by a real uevent", power.measure),
    6: ("the client's CPU quota", quota.measure),
    7: ("wake-ups of an idle daemon", idle.measure),
    8: ("nginx and wrk beside a detached job", foreground.measure),
}

_SIZE = 6 << 30
_LEGEND = (
    "small dots: rounds; large dot: their median; triangle: at least that; "
    "blue: the goal; green: met, red: missed, grey: none"
)
_SHARE = 3
"""Jobs work on at most a third of the free memory."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parse(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with temporary_directory("ktaskd-if-") as directory:
        directory.chmod(0o755)  # nginx drops its rights
        size = min(options.size, room.free_memory() // _SHARE)
        report = Report(Bench(options.seconds, options.repeat, size, directory))
        try:
            for number in options.rows:
                report.add(number, *ROWS[number])
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        finally:
            _write(report, options)
    print(f"\n{report.verdicts()}")
    return 0


def _write(report: Report, options: argparse.Namespace) -> None:
    """Write the results so far, also after an interruption."""
    if options.json:
        report.write(options.json)
    if any(section.lines for section in report.sections):
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / options.picture
        machine = report.machine
        about = f"{machine['cpu']}, CPUs: {machine['cores']}, Linux {machine['kernel']}; {report.verdicts()}"
        draw(report.sections, path, f"{about}\n{_LEGEND}")
        print(f"\npicture: {path}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.interference", description=__doc__)
    add = parser.add_argument
    every = ",".join(map(str, ROWS))
    add("--rows", type=_rows, default=list(ROWS), metavar="N,N", help=f"only these rows (default: {every})")
    add("--seconds", type=_positive, default=5.0, help="of a window of measurement (default: 5)")
    add("--repeat", type=_count, default=5, help="rounds (default: 5)")
    add("--size", type=_size, default=_SIZE, help="most memory to work on (default: 6G)")
    add("--json", type=Path, metavar="FILE", help="write all figures to this file")
    add(
        "--out", type=Path, metavar="DIR", default=Path("build"), help="place of the picture (default: build)"
    )
    add("--picture", default="interference.png", metavar="NAME", help="its name (default: interference.png)")
    return parser.parse_args(argv)


def _rows(text: str) -> list[int]:
    try:
        numbers = sorted({int(word) for word in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or not set(numbers) <= set(ROWS):
        raise argparse.ArgumentTypeError(f'got "{text}", wanted some of {",".join(map(str, ROWS))}')
    return numbers


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"got {text}, wanted more than 0 and less than 3600")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, wanted at least 1")
    return value


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _end(number: int, _: FrameType | None) -> None:
    """Clean up on a signal whose default is to end the process at once."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each row is shown as soon as it is complete
    sys.exit(main())
