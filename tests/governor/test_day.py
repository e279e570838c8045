"""Recorded days, replayed through the policy; the file has the expected results.

Guards: I9
Tests: ktaskd/governor/policy.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ktaskd.governor.settings import GovernorSettings
from tests.governor import machineday
from tests.governor.day import Line, read_day, replay

DAYS = sorted((Path(__file__).parents[1] / "data" / "days").glob("*.csv"))
MACHINES = sorted((Path(__file__).parents[1] / "data" / "days" / "machines").glob("*.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("path", DAYS, ids=lambda path: path.stem)
def test_day_when_replayed_then_at_every_point_what_the_file_says(path: Path) -> None:
    wrong = []
    for line, decision in replay(read_day(path), GovernorSettings()):
        got = decision.level.name, decision.helpers, [reason.code for reason in decision.reasons]
        if got != line.expected:
            wrong.append(f"{line.cells['time']}: got {got}, wanted {line.expected}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_day_of_a_machine_of_files_when_replayed_then_at_every_point_what_the_file_says(
    path: Path, tmp_path: Path
) -> None:
    wrong = [
        f"{point.line.cells['time']}: got {point.outcome}, wanted {point.expected}"
        for point in machineday.replay(path, tmp_path / "host")
        if point.outcome != point.expected
    ]
    assert not wrong, "\n".join(wrong)


def test_days_when_counted_then_there_is_one_with_every_reason() -> None:
    lines: list[Line] = [line for path in DAYS for line in read_day(path)]
    codes = {code for line in lines for code in line.expected[2]}
    assert codes == {
        *("ON_BATTERY", "BATTERY_LOW", "DRAINING", "POWER_SAVER", "THERMAL", "PERFORMANCE_DEGRADED"),
        *("CPU_PRESSURE", "IO_PRESSURE", "MEMORY_PRESSURE", "CGROUP_QUOTA", "CGROUP_THROTTLED"),
        *("SLEEP", "SETTLING"),
    }
