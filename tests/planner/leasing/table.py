"""The table of docs/leases.md."""

from __future__ import annotations

from pathlib import Path

from tests.planner.leasing.rules import RULES
from tests.planner.leasing.scenarios import SCENARIOS, Numbers, Scenario, simulate

PAGE = Path(__file__).parents[3] / "docs" / "leases.md"
BEGIN, END = "<!-- simulation -->\n", "<!-- /simulation -->"

HEAD = (
    "| | rule | messages | taken | daemon, ms | idle at the end, ms | time over ideal | unfair |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def table() -> str:
    """Each scenario under each rule, as Markdown."""
    return HEAD + "".join(
        _line(scenario, rule().name, simulate(scenario, rule)) for scenario in SCENARIOS for rule in RULES
    )


def _line(scenario: Scenario, rule: str, numbers: Numbers) -> str:
    users = "" if numbers.unfair == 0 else f"{100 * numbers.unfair:.1f} %"
    return (
        f"| {scenario.name} | {rule} | {numbers.messages} | {numbers.steals or ''} "
        f"| {1000 * numbers.daemon_s:.2f} | {1000 * numbers.tail_s:.2f} | {numbers.over_ideal:.3f} "
        f"| {users} |\n"
    )


def with_table(text: str) -> str:
    """A text with this table between the two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]
