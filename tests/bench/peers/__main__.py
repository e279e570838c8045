"""Compare ktaskd with other programs that do the same work, row by row, in one run.

Each way has its turn in each round; answers are compared; shown is the median of the rounds' ratios and their
spread. A missed goal is a result and no failure: the exit status is 0 all the same. A row that cannot be
measured here is a line with the reason. Debian's packages that a row needs are installed if we are root.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import ktask

from tests.bench.interference.bench import attempt
from tests.bench.interference.line import MISSED, PASS, table
from tests.bench.interference.plot import draw
from tests.bench.interference.report import Section
from tests.bench.machine import describe_machine, load
from tests.bench.peers.contest import Bench
from tests.bench.peers.rows import ROWS
from tools import room
from tools.private import private_daemon, temporary_directory

_LEGEND = "small dots: rounds; large dot: their median; blue: the goal; green: met, red: missed, grey: none"
_FULL, _QUICK = (1 << 30, (8192, 100_000), 10_000), (32 << 20, (300, 1000), 400)
"""Size in bytes, numbers of files, number of calls."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parse(argv)
    for fatal in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(fatal, _end)
    if options.list:
        print("\n".join(f"{name:<13} {row.title}" for name, row in ROWS.items()))
        return 0
    machine = describe_machine()
    for name, value in machine.items():
        print(f"{name + ':':<8} {value}")
    sections: list[Section] = []
    try:
        with _bench(options) as bench:
            for number, name in enumerate(options.only, 1):
                sections.append(Section(number, f"{name}: {ROWS[name].title}"))
                _measure(bench, name, sections[-1])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        _write(options, machine, sections)
    return 0


@contextlib.contextmanager
def _bench(options: argparse.Namespace) -> Iterator[Bench]:
    size, files, calls = _QUICK if options.quick else _FULL
    with (
        temporary_directory("ktaskd-peers-") as directory,
        private_daemon(directory) as runtime,
        ktask.connect(runtime) as client,
    ):
        yield Bench(options.repeat, size, files, calls, directory, runtime, client)


def _measure(bench: Bench, name: str, section: Section) -> None:
    """Measure one row and print its table; a failure becomes a line with its reason."""
    row, begin = ROWS[name], time.monotonic()
    for line in attempt("the rest of the row", lambda: _with_room(bench, name)):
        section.lines.append(line)
    took = time.monotonic() - begin
    print(f"\n{name}: {row.title} ({took:.0f} s, load {load()})\n{table(section.lines)}", flush=True)


def _with_room(bench: Bench, name: str) -> Iterator[Any]:
    row = ROWS[name]
    need, free = row.needs * bench.size, room.free_memory()
    if need > free:
        raise RuntimeError(f"needs {need >> 20} MiB of memory, {free >> 20} are free")
    yield from row.measure(bench)


def verdicts(sections: Sequence[Section]) -> str:
    """The number of goals that were met, in words."""
    said = [line.verdict for section in sections for line in section.lines]
    return f"{said.count(PASS)} {PASS}, {said.count(MISSED)} {MISSED}"


def _write(options: argparse.Namespace, machine: dict[str, str], sections: Sequence[Section]) -> None:
    """Write the results so far, also after an interruption."""
    if not any(section.lines for section in sections):
        return
    print(f"\n{verdicts(sections)}")
    if options.json:
        rows = [
            {
                "row": one.title.partition(":")[0],
                "title": one.title,
                "lines": [x.as_json() for x in one.lines],
            }
            for one in sections
        ]
        whole = {"machine": machine, "repeat": options.repeat, "quick": options.quick, "rows": rows}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    about = f"{machine['cpu']}, CPUs: {machine['cores']}, Linux {machine['kernel']}; {verdicts(sections)}"
    draw(sections, options.picture, f"{about}\n{_LEGEND}")
    print(f"picture: {options.picture}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    add = parser.add_argument
    add("--only", type=_names, default=list(ROWS), metavar="ROW,ROW", help="only these rows, in this order")
    add("--list", action="store_true", help="list the rows and end")
    add("--repeat", type=_count, default=5, metavar="N", help="rounds (default: 5)")
    add("--quick", action="store_true", help="small and imprecise, a check of the benchmark")
    add("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    default = Path("build/peers.png")
    add("--picture", type=Path, default=default, metavar="FILE", help=f"the picture (default: {default})")
    return parser.parse_args(argv)


def _end(number: int, _: FrameType | None) -> None:
    """Clean up on a signal whose default is to end the process at once."""
    raise SystemExit(128 + number)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f'got "{unknown[0]}", wanted some of {",".join(ROWS)}')
    return names


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, wanted at least 1")
    return value


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each row is shown as soon as it is complete
    sys.exit(main())
