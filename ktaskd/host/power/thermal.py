"""Read how hot the machine is, by the trip points of its own firmware.

Firmware and sensors also show impossible values: a critical trip point at 20.8 degrees, 127 degrees
from a sensor without a probe, a zone that has been above its critical trip point for days. They are
ignored, and `doubted` names them.

Source: Documentation/ABI/testing/sysfs-class-thermal,
Documentation/ABI/testing/sysfs-devices-system-cpu (thermal_throttle)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ktaskd.host.root import HostRoot, matching, read_kernel_text, read_number
from ktaskd.model.observation import Heat, Thermal

LIGHT_K = 10.0
"""From this far below a passive trip point on, heat is LIGHT."""

SEVERE_K = 5.0
"""From this far below a hot or critical trip point on, heat is SEVERE."""

CELSIUS_MAX = 150.0
CELSIUS_MIN = -55.0
"""Values outside these limits are not temperatures: broken sensors show 0 K or 2^31."""

NO_PROBE = frozenset({0.0, 127.0, 127.5, 128.0})
"""Values that sensor chips show without a probe: all bits of a register set, or none.
Source: Documentation/hwmon/lm90.rst (an open diode reads 127), it87.rst (128)"""

AIR_MAX = 45.0
"""Highest temperature of the air around a machine. Source: ASHRAE TC 9.9, class A4"""

TRIP_MIN = {"passive": AIR_MAX, "hot": AIR_MAX + SEVERE_K, "critical": AIR_MAX + SEVERE_K}
"""A trip point at or below these would be reached in a warm room with nothing running."""

LIE_S = 120.0
"""A zone that has been critical for this long is wrong: the kernel shuts a machine down at once.
Source: thermal_zone_device_critical() in drivers/thermal/thermal_core.c"""

STUCK_S = 600.0
STUCK_READINGS = 20
"""A zone near a trip point that shows exactly the same value for this long and in this many readings
is stuck [our estimate]: helpers were taken away meanwhile, so it would have moved. A cooling device
that does not move while no zone is warm counts as stuck too: something other than heat has set it."""

SLOWED_BY = ("Processor", "intel_powerclamp", "cpufreq-", "thermal-cpufreq-")
"""Types of the cooling devices that slow the processor down. Source: drivers/acpi/processor_thermal.c,
drivers/thermal/intel/intel_powerclamp.c, drivers/thermal/cpufreq_cooling.c (its name changed in 5.12)"""

_MILLI_MAX = 10**12
"""Larger numbers are not millidegrees."""

_TRIP = re.compile(r"trip_point_\d+_type")


@dataclass(frozen=True, slots=True)
class _Finding:
    """One indication of heat; `margin` is how far it is below its trip point."""

    heat: Heat
    margin: float
    where: str
    celsius: float | None = None
    trip: float | None = None
    critical: bool = False


@dataclass(frozen=True, slots=True)
class _Past:
    """Remembered readings of a zone or a cooling device.

    Args:
        value, since_s, readings: degrees or state, since when it has not changed, and how often it
            was read since.
        critical_s: since when it has been critical; None = it is not.
        wrong: whether it was found to be wrong.
    """

    value: float
    since_s: float
    readings: int
    critical_s: float | None = None
    wrong: bool = False


class ThermalReader:
    """Reads one machine repeatedly."""

    def __init__(self, root: HostRoot) -> None:
        """Read nothing yet."""
        self._root = root
        self._past: dict[str, _Past] = {}

    def read(self, now_s: float) -> Thermal:
        """Read all zones and cooling devices and report the worst; of equals the nearest to its trip point.

        Only a caller that reads twice sees if `throttles` rises. `events` are left out.

        Args:
            now_s: time by a clock that never goes back.
        """
        throttles = _count_throttles(self._root)
        doubted: list[str] = []
        before, self._past = self._past, {}
        findings = list(self._zones(now_s, before, doubted))
        findings += self._coolers(now_s, before, findings, doubted)
        why = tuple(doubted)
        retracted = any(
            past.wrong and not before[name].wrong for name, past in self._past.items() if name in before
        )
        if not findings:
            return Thermal(throttles=throttles, doubted=why, retracted=retracted)
        worst = max(findings, key=lambda finding: (finding.heat, -finding.margin))
        critical = any(finding.critical for finding in findings)
        return Thermal(
            worst.heat,
            worst.where,
            worst.celsius,
            worst.trip,
            throttles,
            critical,
            doubted=why,
            retracted=retracted,
        )

    def _zones(self, now_s: float, before: Mapping[str, _Past], doubted: list[str]) -> Iterator[_Finding]:
        """Findings of all credible zones; the others are added to `doubted`."""
        for zone in matching(self._root.sys / "class/thermal", "thermal_zone*"):
            if (read_kernel_text(zone / "mode") or "").strip() == "disabled":
                continue
            name = f"{zone.name} ({(read_kernel_text(zone / 'type') or '').strip()})"
            trips = list(_trips(zone, name, doubted))
            celsius = _zone_celsius(zone, name, doubted) if trips else None
            if celsius is None:
                continue
            found = [_find(name, celsius, kind, trip) for kind, trip in trips]
            past = _remember(
                before.get(zone.name), celsius, now_s, critical=any(one.critical for one in found)
            )
            lie = _lie(past, now_s, max(one.heat for one in found))
            self._past[zone.name] = replace(past, wrong=bool(lie))
            if lie:
                doubted.append(f"{name} is not counted: {lie}")
            else:
                yield from found

    def _coolers(
        self, now_s: float, before: Mapping[str, _Past], zones: Sequence[_Finding], doubted: list[str]
    ) -> Iterator[_Finding]:
        """Cooling devices that slow the processor down now, unless heat cannot be the reason."""
        cool = bool(zones) and all(zone.heat is Heat.NOMINAL for zone in zones)
        for name, where, state in _slowing(self._root):
            past = _remember(before.get(name), state, now_s, critical=False)
            # While a zone is warm the device may stay where it is, so its time starts again.
            past = past if cool else replace(past, since_s=now_s, readings=1)
            wrong = _is_stuck(past, now_s)
            self._past[name] = replace(past, wrong=wrong)
            if wrong:
                doubted.append(
                    f"{where} is not counted: it has not moved for {STUCK_S:g} s although no zone is warm"
                )
            else:
                yield _Finding(Heat.MODERATE, 0.0, where)


def _find(name: str, celsius: float, kind: str, trip: float) -> _Finding:
    critical = kind == "critical" and celsius >= trip
    return _Finding(judge(celsius, kind, trip), trip - celsius, name, celsius, trip, critical)


def _remember(before: _Past | None, value: float, now_s: float, *, critical: bool) -> _Past:
    critical_s = (
        (now_s if before is None or before.critical_s is None else before.critical_s) if critical else None
    )
    if before is None or before.value != value:
        return _Past(value, now_s, 1, critical_s)
    return _Past(value, before.since_s, before.readings + 1, critical_s)


def _is_stuck(past: _Past, now_s: float) -> bool:
    return past.readings >= STUCK_READINGS and now_s - past.since_s >= STUCK_S


def _lie(past: _Past, now_s: float, heat: Heat) -> str:
    """Why the zone's temperature cannot be right, in words; "" if it can."""
    if past.critical_s is not None and now_s - past.critical_s >= LIE_S:
        return (
            f"it has been above its critical trip point for {LIE_S:g} s, and the kernel would have shut down"
        )
    if heat >= Heat.LIGHT and _is_stuck(past, now_s):
        return f"it has shown {past.value:g} °C for {STUCK_S:g} s without any change"
    return ""


def judge(celsius: float, kind: str, trip: float) -> Heat:
    """The heat that a temperature means for one trip point; other kinds (active: a fan) do not count."""
    if kind in {"hot", "critical"}:
        return Heat.SEVERE if celsius >= trip - SEVERE_K else Heat.NOMINAL
    if kind != "passive" or celsius < trip - LIGHT_K:
        return Heat.NOMINAL
    return Heat.MODERATE if celsius >= trip else Heat.LIGHT


def _zone_celsius(zone: Path, name: str, doubted: list[str]) -> float | None:
    """Read the zone's temperature; None if it cannot be read now (EAGAIN, ENODATA) or is invalid."""
    value = read_number(zone / "temp")
    if value is None:
        return None
    celsius = value / 1000 if abs(value) <= _MILLI_MAX else float("inf")
    if CELSIUS_MIN <= celsius <= CELSIUS_MAX and celsius not in NO_PROBE:
        return celsius
    doubted.append(f"{name} is not counted: it shows {celsius:g} °C, which is not a temperature")
    return None


def _trips(zone: Path, name: str, doubted: list[str]) -> Iterator[tuple[str, float]]:
    """Kind and temperature of the trip points that describe the machine's limits."""
    for path in matching(zone, "trip_point_*_type"):
        kind = (read_kernel_text(path) or "").strip()
        value = read_number(path.with_name(path.name.removesuffix("type") + "temp"))
        # Firmware disables a trip point with 0 or less. Source: drivers/acpi/thermal.c
        if not _TRIP.fullmatch(path.name) or kind not in TRIP_MIN or value is None or value <= 0:
            continue
        trip = value / 1000 if value <= _MILLI_MAX else float("inf")
        if TRIP_MIN[kind] < trip <= CELSIUS_MAX:
            yield kind, trip
        else:
            doubted.append(
                f"{name} has a {kind} trip point at {trip:g} °C, which is impossible and not counted"
            )


def _slowing(root: HostRoot) -> Iterator[tuple[str, str, int]]:
    """Cooling devices that slow the processor down now: name, words and state."""
    for device in matching(root.sys / "class/thermal", "cooling_device*"):
        kind = (read_kernel_text(device / "type") or "").strip()
        now, most = read_number(device / "cur_state"), read_number(device / "max_state")
        # An idle intel_powerclamp before Linux 6.3 shows -1 as an unsigned number.
        if kind.startswith(SLOWED_BY) and now and most and 0 < now <= most:
            yield device.name, f"{device.name} ({kind}) at {now} of {most}", now


def _count_throttles(root: HostRoot) -> int:
    """Sum over all CPUs. One event counts once for each CPU of its package, but only a rise matters."""
    counts = matching(root.sys / "devices/system/cpu", "cpu*/thermal_throttle/package_throttle_count")
    return sum(count for path in counts if (count := read_number(path)) and count > 0)
