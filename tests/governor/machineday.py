"""A day of a whole fake machine: readings of its sensors, and the expected allowance at every point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ktaskd.governor.policy import Asked, Decision, State, decide
from ktaskd.governor.settings import GovernorSettings
from ktaskd.host.power.supplies import read_power
from ktaskd.host.power.thermal import ThermalReader
from ktaskd.host.pressure.reading import PressureReader
from ktaskd.model.observation import Events, Observation
from tests.governor.day import HELPERS, WALL_S, Line, read_day
from tests.support.hosts import FakeHost

LAG_S = 1.5
"""Seconds after an event of the kernel within which a reading belongs to it."""


def host_of(path: Path) -> str:
    """Name of the machine in the first line of a day."""
    return path.read_text().splitlines()[0].removeprefix("# host: ")


@dataclass
class Machine:
    """A machine with the files that the lines so far have written."""

    host: FakeHost
    now_s: float = 0.0
    events: int = 0
    event_s: float = float("-inf")

    def __post_init__(self) -> None:
        self.thermal = ThermalReader(self.host.root)
        self.pressure = PressureReader(self.host.root)

    def turn(self, line: Line) -> None:
        """Write the files of this line."""
        self.now_s = line.at_s
        for word in filter(None, line.cells["files"].split(";")):
            name, _, text = word.partition("=")
            kind = "thermal" if name.startswith(("thermal_zone", "cooling_device")) else "power_supply"
            self.host.write(f"/sys/class/{kind}/{name}", text)
        if line.cells["event"] == "yes":
            self.events, self.event_s = self.events + 1, line.at_s

    def observe(self) -> Observation:
        events = Events(self.events, self.now_s - self.event_s <= LAG_S)
        return Observation(
            power=replace(read_power(self.host.root), events=events),
            thermal=replace(self.thermal.read(self.now_s), events=events),
            pressure=self.pressure.read(self.now_s),
        )


@dataclass(frozen=True)
class Point:
    """The decision at one line."""

    line: Line
    decision: Decision
    doubted: int

    @property
    def outcome(self) -> tuple[str, int, int, list[str]]:
        codes = [reason.code for reason in self.decision.reasons]
        return self.decision.level.name, self.decision.helpers, self.doubted, codes

    @property
    def expected(self) -> tuple[str, int, int, list[str]]:
        level, helpers, codes = self.line.expected
        return level, helpers, int(self.line.cells["doubted"]), codes


def replay(path: Path, top: Path) -> Iterator[Point]:
    """The decision at each line, with the looks in between that the policy asks for.

    Args:
        top: a new directory for the machine.
    """
    machine, state = Machine(FakeHost.copy(host_of(path), top)), State()
    decision: Decision | None = None
    for line in read_day(path):
        while decision is not None and decision.look_s is not None and decision.look_s < line.at_s:
            machine.now_s = decision.look_s
            decision, _ = ask(machine, state)
            state = decision.state
        machine.turn(line)
        decision, doubted = ask(machine, state)
        state = decision.state
        yield Point(line, decision, doubted)


def ask(machine: Machine, state: State) -> tuple[Decision, int]:
    seen = machine.observe()
    asked = Asked(seen, HELPERS, machine.now_s, WALL_S + machine.now_s)
    return decide(GovernorSettings(), state, asked), len(seen.doubted)
