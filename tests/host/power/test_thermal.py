from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.host.power.thermal import (
    LIE_S,
    STUCK_READINGS,
    STUCK_S,
    ThermalReader,
    judge,
)
from ktaskd.host.root import HostRoot
from ktaskd.model.observation import Heat, Thermal
from tests.support.hosts import FakeHost
from tests.support.machine import make_machine

ZONE = "/sys/class/thermal/thermal_zone3"
"""Trip points of the laptops: passive at 95, hot at 103, critical at 105 degrees."""


def read_thermal(root: HostRoot) -> Thermal:
    """One reading by a reader that knows no earlier one."""
    return ThermalReader(root).read(0.0)


@pytest.fixture
def laptop(tmp_path: Path) -> FakeHost:
    return FakeHost.copy("laptop-ac", tmp_path / "host")


@pytest.mark.parametrize(
    ("temp", "heat", "trip"),
    [
        (84_999, Heat.NOMINAL, 95.0),
        (85_000, Heat.LIGHT, 95.0),
        (94_999, Heat.LIGHT, 95.0),
        (95_000, Heat.MODERATE, 95.0),
        (97_999, Heat.MODERATE, 95.0),
        (98_000, Heat.SEVERE, 103.0),
        (104_000, Heat.SEVERE, 103.0),
    ],
)
def test_heat_when_a_zone_warms_up_then_by_its_trip_points(
    laptop: FakeHost, temp: int, heat: Heat, trip: float
) -> None:
    laptop.write(f"{ZONE}/temp", str(temp))
    found = read_thermal(laptop.root)
    assert (found.heat, found.celsius, found.trip_celsius) == (heat, temp / 1000, trip)
    assert found.where == "thermal_zone3 (x86_pkg_temp)"


def test_heat_when_the_zone_is_disabled_then_it_does_not_count(laptop: FakeHost) -> None:
    laptop.write(f"{ZONE}/temp", "104000")
    laptop.write(f"{ZONE}/mode", "disabled")
    assert read_thermal(laptop.root).heat is Heat.NOMINAL


@pytest.mark.parametrize("temp", ["-274000", "2147483647", "150001", "", "hot", "9" * 5000])
def test_heat_when_the_sensor_is_broken_then_it_does_not_count(laptop: FakeHost, temp: str) -> None:
    laptop.write(f"{ZONE}/temp", temp)
    assert read_thermal(laptop.root).where == "thermal_zone0 (acpitz)"


@pytest.mark.parametrize("trip", ["0", "-1000", "-274000", "2147483647", "", "x"])
def test_heat_when_the_trip_point_is_switched_off_then_the_others_count(laptop: FakeHost, trip: str) -> None:
    laptop.write(f"{ZONE}/temp", "94000")
    laptop.write(f"{ZONE}/trip_point_0_temp", trip)
    assert read_thermal(laptop.root).heat is Heat.NOMINAL
    laptop.write(f"{ZONE}/temp", "99000")
    assert read_thermal(laptop.root).heat is Heat.SEVERE


@pytest.mark.parametrize(
    ("device", "kind", "state", "heat"),
    [
        (0, "Processor", "2", Heat.MODERATE),
        (0, "Processor", "0", Heat.NOMINAL),
        (0, "Processor", "11", Heat.NOMINAL),
        (0, "LCD", "2", Heat.NOMINAL),
        (0, "cpufreq-cpu0", "1", Heat.MODERATE),
        (0, "thermal-cpufreq-0", "1", Heat.MODERATE),
        (2, "intel_powerclamp", "20", Heat.MODERATE),
        (2, "intel_powerclamp", "-1", Heat.NOMINAL),
        (2, "intel_powerclamp", "18446744073709551615", Heat.NOMINAL),
    ],
)
def test_heat_when_the_processor_is_slowed_down_then_moderate(
    laptop: FakeHost, device: int, kind: str, state: str, heat: Heat
) -> None:
    laptop.write(f"/sys/class/thermal/cooling_device{device}/type", kind)
    laptop.write(f"/sys/class/thermal/cooling_device{device}/cur_state", state)
    assert read_thermal(laptop.root).heat is heat


def test_heat_when_a_cooling_device_says_so_then_it_is_named_without_a_temperature(laptop: FakeHost) -> None:
    laptop.write("/sys/class/thermal/cooling_device0/cur_state", "2")
    assert read_thermal(laptop.root) == Thermal(
        Heat.MODERATE, "cooling_device0 (Processor) at 2 of 10", throttles=5
    )


@pytest.mark.parametrize(
    ("temp", "shown"),
    [("0", "0"), ("127000", "127"), ("127500", "127.5"), ("128000", "128"), ("-274000", "-274")],
)
def test_temperature_when_it_is_that_of_a_missing_probe_then_no_signal_and_named(
    laptop: FakeHost, temp: str, shown: str
) -> None:
    laptop.write(f"{ZONE}/temp", temp)
    found = read_thermal(laptop.root)
    assert (found.heat, found.critical, found.where) == (Heat.NOMINAL, False, "thermal_zone0 (acpitz)")
    name = "thermal_zone3 (x86_pkg_temp)"
    assert found.doubted == (f"{name} is not counted: it shows {shown} °C, which is not a temperature",)


def test_temperature_when_it_cannot_be_read_then_no_signal_and_nothing_to_name(laptop: FakeHost) -> None:
    laptop.write(f"{ZONE}/temp", "")
    assert read_thermal(laptop.root) == Thermal(
        Heat.NOMINAL, "thermal_zone0 (acpitz)", 27.8, 119.0, throttles=5
    )


@pytest.mark.parametrize(
    ("kind", "temp", "trip", "counts"),
    [
        ("critical", 16_800, 20_800, False),
        ("critical", 46_000, 50_000, False),
        ("critical", 47_000, 51_000, True),
        ("hot", 16_800, 20_800, False),
        ("hot", 120_000, 151_000, False),
        ("passive", 30_000, 20_000, False),
        ("passive", 60_000, 45_000, False),
        ("passive", 60_000, 46_000, True),
    ],
)
def test_trip_when_it_cannot_be_one_then_no_signal_and_named(
    laptop: FakeHost, kind: str, temp: int, trip: int, counts: bool
) -> None:
    laptop.write("/sys/class/thermal/thermal_zone0/temp", str(temp))
    laptop.write("/sys/class/thermal/thermal_zone0/trip_point_0_type", kind)
    laptop.write("/sys/class/thermal/thermal_zone0/trip_point_0_temp", str(trip))
    found = read_thermal(laptop.root)
    assert (found.heat > Heat.NOMINAL) is counts
    where = f"thermal_zone0 (acpitz) has a {kind} trip point at {trip / 1000:g} °C"
    why = f"{where}, which is impossible and not counted"
    assert found.doubted == (() if counts else (why,))


def test_zone_when_critical_then_at_once_and_a_lie_when_the_machine_still_runs_minutes_later(
    laptop: FakeHost,
) -> None:
    reader = ThermalReader(laptop.root)
    laptop.write(f"{ZONE}/temp", "105000")
    first = reader.read(1000.0)
    assert (first.heat, first.critical, first.doubted) == (Heat.SEVERE, True, ())
    laptop.write(f"{ZONE}/temp", "109000")
    assert reader.read(1000.0 + LIE_S - 1).critical
    lie = reader.read(1000.0 + LIE_S)
    assert (lie.heat, lie.critical, lie.where) == (Heat.NOMINAL, False, "thermal_zone0 (acpitz)")
    assert "above its critical trip point" in lie.doubted[0]
    laptop.write(f"{ZONE}/temp", "96000")
    again = reader.read(1001.0 + LIE_S)
    assert (again.heat, again.doubted) == (Heat.MODERATE, ())
    laptop.write(f"{ZONE}/temp", "105000")
    assert reader.read(1002.0 + LIE_S).critical


@pytest.mark.parametrize(("temp", "stuck"), [(99_000, True), (86_000, True), (70_000, False)])
def test_zone_when_it_never_moves_near_a_trip_point_then_stuck_until_it_does(
    laptop: FakeHost, temp: int, stuck: bool
) -> None:
    reader = ThermalReader(laptop.root)
    laptop.write(f"{ZONE}/temp", str(temp))
    step_s = STUCK_S / (STUCK_READINGS - 1)
    reads = [reader.read(5.0 + i * step_s) for i in range(STUCK_READINGS)]
    assert not any(read.doubted for read in reads[:-1])
    assert bool(reads[-1].doubted) is stuck
    assert (reads[-1].heat > Heat.NOMINAL) is False
    laptop.write(f"{ZONE}/temp", str(temp + 1))
    assert reader.read(9999.0).doubted == ()


@pytest.mark.parametrize(("zone", "stuck"), [("52000", True), ("86000", False)])
def test_cooling_device_when_it_never_moves_and_nothing_is_warm_then_not_counted(
    laptop: FakeHost, zone: str, stuck: bool
) -> None:
    reader = ThermalReader(laptop.root)
    laptop.write("/sys/class/thermal/cooling_device0/cur_state", "2")
    step_s = STUCK_S / (STUCK_READINGS - 1)
    for i in range(STUCK_READINGS):
        laptop.write(f"{ZONE}/temp", str(int(zone) + i))
        read = reader.read(5.0 + i * step_s)
        assert (read.heat is Heat.MODERATE) is not (stuck and i == STUCK_READINGS - 1)
    why = "is not counted: it has not moved for 600 s although no zone is warm"
    why = f"cooling_device0 (Processor) at 2 of 10 {why}"
    assert (read.doubted, read.retracted) == (((why,), True) if stuck else ((), False))
    laptop.write("/sys/class/thermal/cooling_device0/cur_state", "3")
    assert reader.read(9999.0).heat is Heat.MODERATE


def test_throttles_when_counted_then_all_cpus_that_have_a_count(laptop: FakeHost) -> None:
    laptop.write("/sys/devices/system/cpu/cpu7/thermal_throttle/package_throttle_count", "10")
    laptop.write("/sys/devices/system/cpu/cpu6/thermal_throttle/package_throttle_count", "x")
    assert read_thermal(laptop.root).throttles == 15


def test_thermal_when_there_is_nothing_then_nominal(tmp_path: Path) -> None:
    assert read_thermal(HostRoot(tmp_path)) == Thermal()


@given(st.floats(-50, 150), st.floats(0, 10), st.sampled_from(["passive", "hot", "critical", "active"]))
def test_judge_when_it_gets_hotter_then_never_a_lower_heat(celsius: float, more: float, kind: str) -> None:
    assert judge(celsius + more, kind, 90.0) >= judge(celsius, kind, 90.0)


FILES = ("temp", "mode", "trip_point_0_type", "trip_point_0_temp")
TEXT = st.text(max_size=12) | st.integers().map(str) | st.sampled_from(["passive", "critical", "enabled"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(texts=st.tuples(*[TEXT] * len(FILES)))
def test_thermal_when_files_say_anything_then_an_answer(tmp_path: Path, texts: tuple[str, ...]) -> None:
    written = {
        f"/sys/class/thermal/thermal_zone0/{name}": text for name, text in zip(FILES, texts, strict=True)
    }
    found = read_thermal(make_machine(tmp_path, written))
    assert found.celsius is None or -55 <= found.celsius <= 150
    assert all(len(text) < 200 for text in found.doubted)
