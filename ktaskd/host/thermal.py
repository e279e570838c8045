"""Read how hot the machine is, by the trip points that its own firmware set.

Source: Documentation/ABI/testing/sysfs-class-thermal,
Documentation/ABI/testing/sysfs-devices-system-cpu (thermal_throttle)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.root import HostRoot, matching, read_kernel_text, read_number
from ktaskd.model.observation import Heat, Thermal

LIGHT_K = 10.0
"""So far below a passive trip point it is LIGHT already."""

SEVERE_K = 5.0
"""So far below a hot or critical trip point it is SEVERE already."""

CELSIUS_MAX = 150.0
CELSIUS_MIN = -55.0
"""What a sensor outside of that says is no temperature: broken ones show 0 K or 2^31."""

SLOWED_BY = ("Processor", "intel_powerclamp", "cpufreq-", "thermal-cpufreq-")
"""Types of the cooling devices that slow the processor down. Source: drivers/acpi/processor_thermal.c,
drivers/thermal/intel/intel_powerclamp.c, drivers/thermal/cpufreq_cooling.c (its name changed in 5.12)"""

_TRIP = re.compile(r"trip_point_\d+_type")


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing that says how hot it is; `margin` is how far it is below its trip point."""

    heat: Heat
    margin: float
    where: str
    celsius: float | None = None
    trip: float | None = None


def read_thermal(root: HostRoot) -> Thermal:
    """The worst of all zones and cooling devices; among equals the one nearest to its trip point.

    Whether `throttles` rises, only who reads twice can tell.
    """
    throttles = _count_throttles(root)
    findings = [*_zones(root), *_coolers(root)]
    if not findings:
        return Thermal(throttles=throttles)
    worst = max(findings, key=lambda finding: (finding.heat, -finding.margin))
    return Thermal(worst.heat, worst.where, worst.celsius, worst.trip, throttles)


def judge(celsius: float, kind: str, trip: float) -> Heat:
    """What a temperature means for one trip point; other kinds (active: a fan) mean nothing."""
    if kind in {"hot", "critical"}:
        return Heat.SEVERE if celsius >= trip - SEVERE_K else Heat.NOMINAL
    if kind != "passive" or celsius < trip - LIGHT_K:
        return Heat.NOMINAL
    return Heat.MODERATE if celsius >= trip else Heat.LIGHT


def _zones(root: HostRoot) -> Iterator[_Finding]:
    for zone in matching(root.sys / "class/thermal", "thermal_zone*"):
        celsius = _celsius(zone / "temp")
        if celsius is None or (read_kernel_text(zone / "mode") or "").strip() == "disabled":
            continue
        name = f"{zone.name} ({(read_kernel_text(zone / 'type') or '').strip()})"
        for kind, trip in _trips(zone):
            yield _Finding(judge(celsius, kind, trip), trip - celsius, name, celsius, trip)


def _trips(zone: Path) -> Iterator[tuple[str, float]]:
    """Kind and temperature of the trip points that say something about the machine's limits."""
    for path in matching(zone, "trip_point_*_type"):
        kind = (read_kernel_text(path) or "").strip()
        trip = _celsius(path.with_name(path.name.removesuffix("type") + "temp"))
        # Firmware switches a trip point off with 0 or less, as drivers/acpi/thermal.c takes it.
        if _TRIP.fullmatch(path.name) and kind in {"passive", "hot", "critical"} and trip and trip > 0:
            yield kind, trip


def _coolers(root: HostRoot) -> Iterator[_Finding]:
    """Cooling devices that slow the processor down right now."""
    for device in matching(root.sys / "class/thermal", "cooling_device*"):
        kind = (read_kernel_text(device / "type") or "").strip()
        now, most = read_number(device / "cur_state"), read_number(device / "max_state")
        # An idle intel_powerclamp before Linux 6.3 shows -1 as an unsigned number.
        if kind.startswith(SLOWED_BY) and now and most and 0 < now <= most:
            yield _Finding(Heat.MODERATE, 0.0, f"{device.name} ({kind}) at {now} of {most}")


def _count_throttles(root: HostRoot) -> int:
    """Each CPU counts for its package, so that one event counts several times; only a rise matters."""
    counts = matching(root.sys / "devices/system/cpu", "cpu*/thermal_throttle/package_throttle_count")
    return sum(count for path in counts if (count := read_number(path)) and count > 0)


def _celsius(path: Path) -> float | None:
    """A temperature in m degC as degC; None if it cannot be one."""
    value = read_number(path)
    if value is None or not CELSIUS_MIN * 1000 <= value <= CELSIUS_MAX * 1000:
        return None
    return value / 1000
