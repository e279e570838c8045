"""The source of the machine's power."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.host.power.supplies import has_supplies, read_power
from ktaskd.host.root import HostRoot
from ktaskd.model.observation import Power
from tests.support.hosts import FakeHost
from tests.support.machine import make_machine

BATTERY = "/sys/class/power_supply/BAT0"
UCSI = "/sys/devices/platform/USBC000:00"


def usb(laptop: FakeHost, roles: dict[str, str], *, parent: bool = True) -> None:
    """Give the laptop a USB supply that is online, and ports next to it."""
    if parent:
        laptop.write(f"{UCSI}/uevent", "")
    laptop.write(f"{UCSI}/power_supply/usb0/type", "USB")
    laptop.write(f"{UCSI}/power_supply/usb0/online", "1")
    laptop.root.at("/sys/class/power_supply/usb0").symlink_to(
        "../../devices/platform/USBC000:00/power_supply/usb0"
    )
    for name, role in roles.items():
        laptop.write(f"{UCSI}/typec/{name}/power_role", role)
        port = laptop.root.at(f"/sys/class/typec/{name}")
        port.parent.mkdir(exist_ok=True)
        port.symlink_to(f"../../devices/platform/USBC000:00/typec/{name}")


def test_power_when_plugged_in_then_no_longer_on_battery(laptop: FakeHost) -> None:
    assert read_power(laptop.root).on_battery
    laptop.plug_in()
    assert read_power(laptop.root) == Power(battery_percent=43)


@pytest.mark.parametrize("status", ["Charging", "Not charging", "Full", "Unknown"])
def test_power_when_the_battery_does_not_discharge_then_external(laptop: FakeHost, status: str) -> None:
    laptop.write(f"{BATTERY}/status", status)
    assert not read_power(laptop.root).on_battery


def test_power_when_the_status_cannot_be_read_then_taken_for_discharging(laptop: FakeHost) -> None:
    laptop.remove("/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0C0A:00/power_supply/BAT0/status")
    assert read_power(laptop.root) == Power(on_battery=True, battery_percent=43)
    laptop.write("/sys/class/power_supply/AC/online", "1")
    assert read_power(laptop.root) == Power(battery_percent=43)


@pytest.mark.parametrize(("present", "counts"), [("1", True), ("0", False), ("", True), ("maybe", True)])
def test_power_when_the_battery_may_be_absent_then_only_zero_says_so(
    laptop: FakeHost, present: str, counts: bool
) -> None:
    laptop.write(f"{BATTERY}/present", present)
    assert read_power(laptop.root).on_battery is counts
    assert (read_power(laptop.root).battery_percent is not None) is counts


@pytest.mark.parametrize(("scope", "counts"), [("Device", False), ("System", True), ("Unknown", True)])
def test_power_when_the_battery_is_of_a_device_then_it_does_not_count(
    laptop: FakeHost, scope: str, counts: bool
) -> None:
    laptop.write(f"{BATTERY}/scope", scope)
    assert read_power(laptop.root).on_battery is counts


@pytest.mark.parametrize(
    ("online", "fed"), [("0", False), ("1", True), ("2", True), ("", False), ("x", False)]
)
def test_power_when_mains_says_so_then_fed(laptop: FakeHost, online: str, fed: bool) -> None:
    laptop.write("/sys/class/power_supply/AC/online", online)
    assert read_power(laptop.root).on_battery is not fed
    assert read_power(laptop.root).draining is fed


@pytest.mark.parametrize("kind", ["Mains", "USB_PD", "USB_C", "Wireless", "BrickID", "Unknown"])
def test_power_when_any_other_kind_is_online_then_fed(laptop: FakeHost, kind: str) -> None:
    laptop.write("/sys/class/power_supply/other/type", kind)
    laptop.write("/sys/class/power_supply/other/online", "1")
    assert not read_power(laptop.root).on_battery


@pytest.mark.parametrize(
    ("roles", "fed"),
    [
        ({}, True),
        ({"port0": "source [sink]"}, True),
        ({"port0": "[source] sink"}, False),
        ({"port0": "[source] sink", "port1": "source [sink]"}, True),
        ({"port0": "[source] sink", "port1": ""}, False),
        ({"port0": ""}, True),
    ],
)
def test_power_when_a_usb_supply_is_online_then_fed_unless_all_its_ports_feed(
    laptop: FakeHost, roles: dict[str, str], fed: bool
) -> None:
    usb(laptop, roles)
    assert read_power(laptop.root).on_battery is not fed


def test_power_when_a_usb_supply_has_no_parent_then_left_out_as_systemd_does(laptop: FakeHost) -> None:
    usb(laptop, {}, parent=False)
    assert read_power(laptop.root).on_battery


def test_power_when_a_port_is_of_another_device_then_it_does_not_count(laptop: FakeHost) -> None:
    usb(laptop, {})
    laptop.write("/sys/devices/platform/other/typec/port9/power_role", "[source] sink")
    port = laptop.root.at("/sys/class/typec/port9")
    port.parent.mkdir(exist_ok=True)
    port.symlink_to("../../devices/platform/other/typec/port9")
    assert not read_power(laptop.root).on_battery


def test_supplies_when_there_is_no_such_class_then_none(tmp_path: Path, laptop: FakeHost) -> None:
    assert not has_supplies(HostRoot(tmp_path / "nothing"))
    assert read_power(HostRoot(tmp_path / "nothing")) == Power()
    assert has_supplies(laptop.root)


def test_supplies_when_a_link_leads_nowhere_or_in_a_circle_then_left_out(laptop: FakeHost) -> None:
    supplies = laptop.root.at("/sys/class/power_supply")
    (supplies / "gone").symlink_to("../../devices/gone")
    (supplies / "loop").symlink_to("loop")
    assert read_power(laptop.root) == Power(on_battery=True, battery_percent=43)


FILES = ("type", "online", "present", "status", "scope", "capacity")
TEXT = st.text(max_size=20) | st.sampled_from(
    ["Battery", "UPS", "USB", "Mains", "0", "1", "Discharging", "50"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(files=st.dictionaries(st.sampled_from(FILES), TEXT))
def test_power_when_files_say_anything_then_an_answer(tmp_path: Path, files: dict[str, str]) -> None:
    written = {f"/sys/class/power_supply/X/{name}": files.get(name, "") for name in FILES}
    power = read_power(make_machine(tmp_path, written))
    assert power.battery_percent is None or 0 <= power.battery_percent <= 100
    assert not (power.on_battery and power.draining)
