"""The results: printed one by one, and kept for JSON and the picture."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.interference.bench import Bench, Row, attempt
from tests.bench.interference.line import MISSED, PASS, Line, table
from tests.bench.machine import describe_machine, load


@dataclass(frozen=True, slots=True)
class Section:
    """One row with its lines."""

    number: int
    title: str
    lines: list[Line] = field(default_factory=list)


class Report:
    """Prints rows and stores them."""

    def __init__(self, bench: Bench) -> None:
        """Begin with the machine."""
        self._bench = bench
        self.machine = describe_machine()
        self.sections: list[Section] = []
        for name, value in self.machine.items():
            print(f"{name + ':':<8} {value}")
        print(
            f"{'effort:':<8} {bench.repeat} rounds, windows of {bench.seconds:g} s; shown are the median "
            "of the rounds and the least .. the most"
        )

    def add(self, number: int, title: str, row: Row) -> None:
        """Measure one row and print its table; a failure becomes a line with its reason."""
        begin = time.monotonic()
        section = Section(number, title)
        self.sections.append(section)
        for line in attempt("the rest of the row", lambda: row(self._bench)):
            section.lines.append(line)  # kept even if the row is broken off
        took = time.monotonic() - begin
        print(f"\nrow {number}: {title} ({took:.0f} s, load {load()})\n{table(section.lines)}", flush=True)

    def verdicts(self) -> str:
        """The number of goals that were met, in words."""
        said = [line.verdict for section in self.sections for line in section.lines]
        unmeasured = sum(not line.values for section in self.sections for line in section.lines)
        return f"{said.count(PASS)} {PASS}, {said.count(MISSED)} {MISSED} ({unmeasured} of them not measured)"

    def as_json(self) -> dict[str, Any]:
        """All rows, for programs."""
        rows = [
            {
                "row": section.number,
                "title": section.title,
                "lines": [line.as_json() for line in section.lines],
            }
            for section in self.sections
        ]
        effort = {"seconds": self._bench.seconds, "repeat": self._bench.repeat, "size": self._bench.size}
        return {"machine": self.machine, "effort": effort, "rows": rows}

    def write(self, path: Path) -> None:
        """All rows as JSON."""
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")
