"""A machine made of files that a daemon takes for its own: a laptop at its charger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.bench.interference.beside import REPOSITORY
from tests.bench.interference.programs import Unmeasured

RECORDED = REPOSITORY / "tests" / "data" / "hosts" / "laptop-ac"
UEVENT = Path("/sys/class/net/lo/uevent")
"""A device that every machine has, and whose event means nothing. Root may trigger it."""

_SMALLEST = {
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/AC/online": "1",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/present": "1",
    "sys/class/power_supply/BAT0/scope": "System",
    "sys/class/power_supply/BAT0/status": "Charging",
    "sys/class/power_supply/BAT0/capacity": "80",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
    "sys/class/thermal/thermal_zone0/mode": "enabled",
    "sys/class/thermal/thermal_zone0/temp": "45000",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "100000",
}
"""The files of the machine if no recorded one is available."""


class FakeHost:
    """A directory that is a machine; `calm` restores everything."""

    def __init__(self, top: Path) -> None:
        """Make the machine in the new directory `top`."""
        self.top = top
        if RECORDED.is_dir():
            shutil.copytree(RECORDED, top, symlinks=True)
        else:
            for name, text in _SMALLEST.items():
                self._write(top / name, text)
        self._before: dict[Path, str] = {}

    @property
    def bus(self) -> Path:
        """Path of its system bus's socket. Source: D-Bus specification."""
        return self.top / "run" / "dbus" / "system_bus_socket"

    def unplug(self) -> None:
        """Unplug the charger; the battery discharges."""
        self._change(self._supply("Mains") / "online", "0")
        self._change(self._supply("Battery") / "status", "Discharging")

    def drain(self) -> None:
        """Make the battery almost empty, and its charger too weak to hold the charge."""
        self._change(self._supply("Battery") / "capacity", "4")
        self._change(self._supply("Battery") / "status", "Discharging")

    def heat(self) -> None:
        """Heat a zone to one degree below the temperature at which the machine switches off."""
        for zone in self._devices("thermal"):
            limit = _switches_off(zone)
            if limit:
                self._change(zone / "temp", str(limit - 1000))
                return
        raise Unmeasured("no thermal zone of the fake machine has a critical trip point")

    def calm(self) -> None:
        """Restore everything."""
        for path, text in self._before.items():
            path.write_text(text)
        self._before.clear()

    def _supply(self, kind: str) -> Path:
        for supply in self._devices("power_supply"):
            if (supply / "type").read_text().strip() == kind:
                return supply
        raise Unmeasured(f"the fake machine has no power supply of type {kind}")

    def _devices(self, kind: str) -> Iterator[Path]:
        yield from sorted((self.top / "sys" / "class" / kind).iterdir())

    def _change(self, path: Path, text: str) -> None:
        self._before.setdefault(path, path.read_text())
        self._write(path, text)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def _switches_off(zone: Path) -> int:
    """Thousandths of a degree at which the machine is switched off; 0 = this zone does not."""
    for kind in sorted(zone.glob("trip_point_*_type")):
        if kind.read_text().strip() in ("critical", "hot"):
            limit = int(kind.with_name(kind.name.replace("_type", "_temp")).read_text())
            mode = zone / "mode"
            if limit > 0 and (not mode.exists() or mode.read_text().strip() == "enabled"):
                return limit
    return 0


def send_uevent() -> None:
    """Cause a real event of the kernel, for all listeners.

    Raises:
        Unmeasured: we lack the right.
    """
    try:
        UEVENT.write_text("change\n")
    except OSError as error:
        raise Unmeasured(
            f"{UEVENT}: {error.strerror}; only root may have the kernel send an event"
        ) from error
