"""Any sensor of a fake machine shows anything, once: readers and policy together.

Tests: ktaskd/governor/policy.py, ktaskd/host/power
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.governor.policy import State
from ktaskd.host.root import HostRoot
from tests.governor import machineday
from tests.support.hosts import FakeHost

FILES = (
    *("/sys/class/power_supply/AC/online", "/sys/class/power_supply/AC/type"),
    *(
        f"/sys/class/power_supply/BAT0/{name}"
        for name in ("capacity", "status", "present", "type", "energy_full", "scope", "health", "power_now")
    ),
    *("/sys/class/thermal/thermal_zone0/temp", "/sys/class/thermal/thermal_zone3/temp"),
    *(f"/sys/class/thermal/thermal_zone3/trip_point_{i}_temp" for i in range(3)),
    *("/sys/class/thermal/thermal_zone3/mode", "/sys/class/thermal/cooling_device0/cur_state"),
    "/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count",
)
TEXTS = (
    st.sampled_from(
        ["0", "1", "3", "21", "255", "-1", "97000", "104000", "109000", "127000", "2147483647", ""]
    )
    | st.sampled_from(["Discharging", "Full", "Not charging", "Battery", "UPS", "Mains", "Device", "Dead"])
    | st.integers().map(str)
    | st.text(max_size=8, alphabet=st.characters(codec="ascii"))
)

WRONG_AT = 5
"""Readings before the wrong one."""


@pytest.mark.slow
@pytest.mark.parametrize("power", ["ac", "battery"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shown=st.dictionaries(st.sampled_from(FILES), TEXTS, min_size=1, max_size=3), heard=st.booleans())
def test_reading_when_sensors_show_anything_once_then_as_before_from_the_next_on(
    power: str, tmp_path: Path, shown: dict[str, str], heard: bool
) -> None:
    top = tmp_path / "host"
    host = FakeHost(HostRoot(top)) if top.exists() else FakeHost.copy(f"laptop-{power}", top)
    laptop, state = machineday.Machine(host), State()
    for i in range(WRONG_AT):
        before, state = look(laptop, state, i)
    laptop.events += heard
    laptop.event_s = 100.0 + 2.5 * WRONG_AT if heard else float("-inf")
    with showing(host, shown):
        _, state = look(laptop, state, WRONG_AT)
    for i in range(WRONG_AT + 1, 2 * WRONG_AT):
        after, state = look(laptop, state, i)
        assert after == before


@contextmanager
def showing(host: FakeHost, shown: dict[str, str]) -> Iterator[None]:
    """Write these files for a moment, then restore them."""
    right = {path: file.read_bytes() if (file := host.root.at(path)).exists() else None for path in shown}
    try:
        for path, text in shown.items():
            host.write(path, text)
        yield
    finally:
        for path, data in right.items():
            if data is None:
                host.remove(path)
            else:
                host.root.at(path).write_bytes(data)


def look(laptop: machineday.Machine, state: State, turn: int) -> tuple[tuple[object, ...], State]:
    """Everything that can be noticed from outside at the next reading, and the state."""
    laptop.now_s = 100.0 + 2.5 * turn
    decision, _ = machineday.ask(laptop, state)
    return (decision.level, decision.helpers, decision.reasons), decision.state
