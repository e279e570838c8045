"""Charge and discharge of all batteries and UPSes together."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktaskd.host.power.supplies import read_power
from tests.support.hosts import FakeHost

BATTERY = "/sys/class/power_supply/BAT0"


def add(laptop: FakeHost, **says: object) -> None:
    """Give the laptop a second battery."""
    for name, text in {"type": "Battery", "present": "1", **says}.items():
        laptop.write(f"/sys/class/power_supply/BAT1/{name}", str(text))


@pytest.mark.parametrize(
    ("second", "percent"),
    [
        ({"capacity": 9, "energy_full": 50_000_000}, 26.0),
        ({"capacity": 9, "energy_full": 25_000_000}, (50 * 43 + 25 * 9) / 75),
        (
            {"capacity": 9, "charge_full": 2_500_000, "voltage_min_design": 10_000_000},
            (50 * 43 + 25 * 9) / 75,
        ),
        ({"capacity": 9, "charge_full": 2_500_000, "voltage_now": 20_000_000}, 26.0),
        ({"capacity": 9, "charge_full": 2_500_000}, 26.0),  # Ah without a voltage give no energy
        ({"capacity": 9}, 26.0),
        ({"capacity": 9, "energy_full": "-1"}, 26.0),
        ({"energy_full": 50_000_000, "energy_now": 4_500_000}, 26.0),
        ({"charge_full": 5_000_000, "charge_now": 450_000, "voltage_now": 10_000_000}, 26.0),
        ({"energy_full": 50_000_000, "energy_now": 51_000_000}, 71.5),
        ({}, 43.0),
        ({"energy_full": 0, "energy_now": 0}, 43.0),
        ({"energy_full": 0, "capacity": 0}, 43.0),
        ({"energy_full": 50_000_000, "capacity": 90, "present": 0}, 43.0),
        ({"energy_full": 50_000_000, "capacity": 90, "scope": "Device"}, 43.0),
        ({"energy_full": 50_000_000, "capacity": 90, "health": "Dead"}, 43.0),
        ({"energy_full": 50_000_000, "capacity": 9, "status": "Full"}, 43.0),
    ],
)
def test_percent_when_there_are_two_batteries_then_summed_by_energy_of_what_can_be_used(
    laptop: FakeHost, second: dict[str, object], percent: float
) -> None:
    add(laptop, **{"status": "Unknown", **second})
    assert read_power(laptop.root).battery_percent == pytest.approx(percent)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"health": "Dead"}, 'BAT0 is not counted: its health is "Dead"'),
        ({"status": "Full", "capacity": "3"}, 'BAT0 is not counted: it reports "Full" at 3 %'),
        ({"capacity": "130"}, 'BAT0 is not counted: its charge is "130", which is not a percentage'),
        ({"capacity": "0", "energy_full": "0"}, "BAT0 is not counted: it holds no energy when full"),
        (
            {"capacity": "0", "status": "Not charging"},
            'BAT0 is not counted: it stays at 0 % on external power ("Not charging")',
        ),
        ({"capacity": "0", "status": "Charging"}, None),
        ({"capacity": "60", "status": "Not charging"}, None),  # a limit on charging
        ({"capacity": "3", "status": "Not charging"}, None),
    ],
)
def test_battery_when_it_cannot_be_used_then_named(
    laptop: FakeHost, change: dict[str, str], why: str | None
) -> None:
    laptop.plug_in()
    for name, text in change.items():
        laptop.write(f"{BATTERY}/{name}", text)
    power = read_power(laptop.root)
    assert power.doubted == ((why,) if why else ())
    assert (power.battery_percent is None) is (why is not None)
    assert not power.on_battery
    assert not power.draining


@pytest.mark.parametrize(
    ("first", "second", "drains"),
    [
        ("Discharging", "Not charging", True),
        ("Discharging", "Charging", False),
        ("Full", "Discharging", True),
        ("Not charging", "Not charging", False),
    ],
)
def test_draining_when_there_are_two_batteries_then_not_while_one_is_charged(
    laptop: FakeHost, first: str, second: str, drains: bool
) -> None:
    laptop.plug_in()
    laptop.write(f"{BATTERY}/status", first)
    add(laptop, status=second, capacity=50)
    assert read_power(laptop.root).draining is drains


@pytest.mark.parametrize(("flow", "drains"), [("0", False), ("900000", True), ("-900000", True), ("", True)])
def test_draining_when_nothing_flows_on_external_power_then_not(
    laptop: FakeHost, flow: str, drains: bool
) -> None:
    laptop.write("/sys/class/power_supply/AC/online", "1")
    laptop.write(f"{BATTERY}/power_now", flow)
    assert read_power(laptop.root).draining is drains
    laptop.write("/sys/class/power_supply/AC/online", "0")
    assert read_power(laptop.root).on_battery


@pytest.mark.parametrize(
    ("behaviour", "drains"),
    [
        ("auto inhibit-charge [force-discharge]", False),
        ("[auto] inhibit-charge force-discharge", True),
        ("", True),
    ],
)
def test_draining_when_meant_then_not(laptop: FakeHost, behaviour: str, drains: bool) -> None:
    laptop.write("/sys/class/power_supply/AC/online", "1")
    laptop.write(f"{BATTERY}/charge_behaviour", behaviour)
    assert read_power(laptop.root).draining is drains


def test_draining_when_a_ups_empties_then_so_although_the_battery_is_charged(tmp_path: Path) -> None:
    ups = FakeHost.copy("ups", tmp_path / "ups")
    add(ups, status="Charging", capacity=90)
    assert read_power(ups.root).draining


@pytest.mark.parametrize("capacity", ["-1", "101", "full", "", "9" * 5000])
def test_percent_when_it_is_none_then_unknown(laptop: FakeHost, capacity: str) -> None:
    laptop.write(f"{BATTERY}/capacity", capacity)
    assert read_power(laptop.root).battery_percent is None
