from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.host.root import HostRoot
from ktaskd.host.thermal import judge, read_thermal
from ktaskd.model.observation import Heat, Thermal
from tests.support.hosts import FakeHost
from tests.support.machine import make_machine

ZONE = "/sys/class/thermal/thermal_zone3"
"""Of the laptops: passive at 95, hot at 103, critical at 105 degrees."""


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
