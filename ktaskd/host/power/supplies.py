"""Read where the machine's power comes from, by the rules of systemd.

Drivers name their supplies freely, so names are ignored: the rules use the type, and for USB-C
the direction of the current.

Source: on_ac_power() in systemd's src/shared/battery-util.c,
Documentation/ABI/testing/sysfs-class-power, sysfs-class-typec
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.power.batteries import DISCHARGING, Store, charge, doubt, is_draining
from ktaskd.host.root import HostRoot, read_kernel_text, read_number
from ktaskd.model.observation import Power

SUPPLIES = "class/power_supply"
PORTS = "class/typec"

_DIGITS = 3
_SHOWN = 20
"""Characters that a status shows of an invalid value."""


@dataclass(frozen=True, slots=True)
class Supply:
    """One power supply that counts, as its driver shows it.

    Args:
        online: whether it feeds the machine; None if not reported. Ignored for a battery.
        store: the readings of a battery or a UPS; None for a supply that stores nothing.
    """

    online: int | None
    store: Store | None = None

    @property
    def feeds(self) -> bool:
        """Whether it gives external power. `online` is 1 for fixed, 2 for programmable."""
        return not self.is_battery and bool(self.online)

    @property
    def is_battery(self) -> bool:
        """Whether its type is Battery; a UPS also stores energy, but is not a battery to systemd."""
        return self.store is not None and self.store.battery


def read_power(root: HostRoot) -> Power:
    """Read the power supplies. Leaves out what only the bus knows (`profile`, `degraded`), and `events`."""
    supplies = list(read_supplies(root))
    stores = [supply.store for supply in supplies if supply.store is not None]
    fed = any(supply.feeds for supply in supplies)
    empties = any(store.battery and store.status in (None, DISCHARGING) for store in stores)
    on_battery = empties and not fed
    return Power(
        on_battery=on_battery,
        battery_percent=charge(stores, fed=fed),
        draining=not on_battery and is_draining(stores, fed=fed),
        doubted=tuple(
            f"{store.name} is not counted: {why}" for store in stores if (why := doubt(store, fed=fed))
        ),
    )


def has_supplies(root: HostRoot) -> bool:
    """Whether the kernel has any power supply, even one that does not count."""
    return any(True for _ in _entries(root.sys / SUPPLIES))


def read_supplies(root: HostRoot) -> Iterator[Supply]:
    """All supplies of the machine, without those of devices and ports that feed other devices."""
    for path in _entries(root.sys / SUPPLIES):
        supply = _read_supply(root, path)
        if supply is not None:
            yield supply


def _read_supply(root: HostRoot, path: Path) -> Supply | None:
    kind = _word(path / "type")
    if kind is None or (kind == "USB" and not _is_sink(root, path)):
        return None
    if kind not in {"Battery", "UPS"}:
        return Supply(read_number(path / "online"))
    # A missing file `present` means that the battery is present.
    if _word(path / "scope") == "Device" or read_number(path / "present") == 0:
        return None
    return Supply(read_number(path / "online"), _read_store(path, battery=kind == "Battery"))


def _read_store(path: Path, *, battery: bool) -> Store:
    percent, strange = _read_percent(path)
    flows = (read_number(path / name) for name in ("power_now", "current_now"))
    return Store(
        name=path.name,
        battery=battery,
        status=_word(path / "status"),
        percent=percent,
        energy=_read_energy(path),
        flow=next((flow for flow in flows if flow is not None), None),
        health=_word(path / "health") or "",
        forced="[force-discharge]" in (_word(path / "charge_behaviour") or ""),
        strange=strange,
    )


def _read_percent(path: Path) -> tuple[float | None, str]:
    """The charge in percent, and why the reported one cannot be right.

    `capacity` is the estimate of the driver or of the battery's own gauge. Without it the charge
    is computed.
    """
    text = _word(path / "capacity")
    if text is not None:
        if text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) <= 100:
            return float(text), ""
        return None, f'its charge is "{text[:_SHOWN]}", which is not a percentage'
    for unit in ("energy", "charge"):
        now, full = read_number(path / f"{unit}_now"), read_number(path / f"{unit}_full")
        if now is not None and full is not None and now >= 0 and full > 0:
            # A battery that was just calibrated holds a little more than "full".
            return min(100.0 * now / full, 100.0), ""
    return None, ""


def _read_energy(path: Path) -> float | None:
    """Wh when full, computed from Ah and a voltage if the driver counts charge; None if not reported."""
    energy = read_number(path / "energy_full")
    if energy is not None and energy >= 0:
        return energy / 1e6
    full = read_number(path / "charge_full")
    if full is None or full < 0:
        return None
    if full == 0:
        return 0.0
    voltages = (read_number(path / name) for name in ("voltage_min_design", "voltage_now"))
    volts = next((volt / 1e6 for volt in voltages if volt is not None and volt > 0), None)
    return full / 1e6 * volts if volts is not None else None


def _is_sink(root: HostRoot, supply: Path) -> bool:
    """Whether a USB supply feeds us, judged by the ports of the same parent device.

    A port of a desktop's graphics card is a USB supply that is offline or a source, which must
    not make that desktop run on battery (systemd #21988). Without a parent its ports are not
    known, and systemd leaves it out.
    """
    parent = _parent(root, supply)
    if parent is None:
        return False
    ports = [port for port in _entries(root.sys / PORTS) if parent in _real(port).parents]
    roles = [role for port in ports if (role := _word(port / "power_role")) is not None]
    sources = any("[source]" in role for role in roles)
    return not sources or any("[sink]" in role for role in roles)


def _parent(root: HostRoot, device: Path) -> Path | None:
    """The device above: directories of devices have a file `uevent`, others do not."""
    top = _real(root.sys)
    for above in _real(device).parents:
        if above == top:
            return None
        if os.path.exists(above / "uevent"):
            return above
    return None


def _real(path: Path) -> Path:
    """The target of a class's link; unlike Path.resolve this never raises."""
    return Path(os.path.realpath(path))


def _entries(directory: Path) -> list[Path]:
    """Devices of a class, by name; empty if there are none or it cannot be read."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _word(path: Path) -> str | None:
    """Read a file of one line; None if that fails: drivers return ENODEV, ENODATA, EAGAIN or EIO."""
    text = read_kernel_text(path)
    return text.strip() if text is not None else None
