"""A recorded day: lines of readings with times, and the expected allowance at each of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ktaskd.governor.policy import Asked, Decision, State, decide
from ktaskd.governor.settings import GovernorSettings
from ktaskd.model.observation import Events, Heat, Observation, OwnLimit, Power, Pressure, Stall, Thermal

HELPERS = 4
WALL_S = 1_800_000_000.0
"""Seconds since the epoch at the day's midnight."""


@dataclass(frozen=True)
class Line:
    """One line of the file."""

    at_s: float
    cells: dict[str, str]

    def number(self, name: str) -> float:
        return float(self.cells[name])

    @property
    def expected(self) -> tuple[str, int, list[str]]:
        return self.cells["level"], int(self.cells["helpers"]), self.cells["reasons"].split()


def read_day(path: Path) -> list[Line]:
    """The lines of a day, in order."""
    with path.open(newline="") as f:
        rows = list(csv.DictReader(line for line in f if not line.startswith("#")))
    return [Line(seconds(row["time"]), row) for row in rows]


def seconds(text: str) -> float:
    hours, minutes, rest = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


@dataclass
class Machine:
    """A machine in the state of the last line; its counters go on."""

    now_s: float = 0.0
    line: Line | None = None
    counts: dict[str, float] = field(default_factory=dict)
    events: int = 0

    def turn(self, line: Line) -> None:
        """Set the state of this line."""
        self.line = line
        self.events += line.cells["event"] == "yes"

    def go_on(self, to_s: float) -> None:
        if self.line is not None:
            passed_s = to_s - self.now_s
            for name in ("cpu", "io", "memory", "full"):
                moved = self.line.number(name) / 100 * passed_s * 1e6
                self.counts[name] = self.counts.get(name, 0.0) + moved
            moved = self.line.number("throttled") * passed_s
            self.counts["throttled"] = self.counts.get("throttled", 0.0) + moved
        self.now_s = to_s

    def count(self, name: str) -> int:
        return round(self.counts.get(name, 0.0))

    def observe(self) -> Observation:
        assert self.line is not None
        cells = self.line.cells
        events = Events(self.events, cells["event"] == "yes" and self.now_s - self.line.at_s < 1.5)
        return Observation(
            Power(
                on_battery=cells["power"] == "battery",
                battery_percent=self.line.number("battery"),
                draining=cells["power"] == "weak",
                profile=cells["profile"],
                degraded=cells["degraded"],
                events=events,
            ),
            Thermal(Heat[cells["heat"].upper()], events=events),
            Pressure(
                Stall(self.count("cpu")),
                "/proc/pressure/cpu",
                Stall(self.count("io")),
                Stall(self.count("memory"), self.count("full")),
            ),
            OwnLimit(self.line.number("cpus"), self.count("throttled")),
            cells["sleeping"] == "yes",
        )


def replay(lines: list[Line], settings: GovernorSettings) -> Iterator[tuple[Line, Decision]]:
    """The decision at each line, with the looks in between that the policy asks for."""
    machine, state = Machine(), State()
    decision: Decision | None = None
    for line in lines:
        while machine.line is not None and decision is not None and machine.line.cells["work"] == "yes":
            assert decision.look_s is not None
            assert decision.look_s > machine.now_s
            if decision.look_s >= line.at_s:
                break
            machine.go_on(decision.look_s)
            decision = ask(settings, state, machine)
            state = decision.state
        machine.go_on(line.at_s)
        machine.turn(line)
        decision = ask(settings, state, machine)
        state = decision.state
        yield line, decision


def ask(settings: GovernorSettings, state: State, machine: Machine) -> Decision:
    asked = Asked(machine.observe(), HELPERS, machine.now_s, WALL_S + machine.now_s)
    return decide(settings, state, asked)
