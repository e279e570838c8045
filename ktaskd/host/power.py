"""Read where the machine's power comes from, as systemd decides it.

Every driver names its supplies as it likes, so nothing goes by names: only by
type, and for USB-C by which way the current flows.

Source: on_ac_power() in systemd's src/shared/battery-util.c,
Documentation/ABI/testing/sysfs-class-power, sysfs-class-typec
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.root import HostRoot, read_kernel_text, read_number
from ktaskd.model.observation import Power

SUPPLIES = "class/power_supply"
PORTS = "class/typec"


@dataclass(frozen=True, slots=True)
class Supply:
    """One power supply that counts, as its driver shows it.

    Args:
        battery: of type Battery; a UPS is none to systemd, but also stores.
        stores: it can run empty: a battery or a UPS.
        online: feeds the machine; None if it does not say. A battery's own is not asked.
        status: "Charging", "Discharging" ...; None if it cannot be read.
        percent: 0 to 100; None if it does not say.
    """

    battery: bool
    stores: bool
    online: int | None
    status: str | None
    percent: int | None

    @property
    def feeds(self) -> bool:
        """External power. 1 = fixed, 2 = programmable."""
        return not self.battery and bool(self.online)

    @property
    def discharges(self) -> bool:
        """It says so itself."""
        return self.stores and self.status == "Discharging"


def read_power(root: HostRoot) -> Power:
    """Power without `profile` and `degraded`, which only a bus knows."""
    supplies = list(read_supplies(root))
    fed = any(supply.feeds for supply in supplies)
    empties = any(supply.battery and supply.status in (None, "Discharging") for supply in supplies)
    on_battery = empties and not fed
    return Power(
        on_battery=on_battery,
        battery_percent=min(
            (supply.percent for supply in supplies if supply.percent is not None), default=None
        ),
        draining=not on_battery and any(supply.discharges for supply in supplies),
    )


def has_supplies(root: HostRoot) -> bool:
    """Whether the kernel knows of any power supply, even one that does not count."""
    return any(True for _ in _entries(root.sys / SUPPLIES))


def read_supplies(root: HostRoot) -> Iterator[Supply]:
    """All that power the machine; those of devices, and ports that feed others, are none."""
    for path in _entries(root.sys / SUPPLIES):
        supply = _read_supply(root, path)
        if supply is not None:
            yield supply


def _read_supply(root: HostRoot, path: Path) -> Supply | None:
    kind = _word(path / "type")
    if kind is None or (kind == "USB" and not _is_sink(root, path)):
        return None
    stores = kind in {"Battery", "UPS"}
    # A missing `present` means that it is there.
    if stores and (_word(path / "scope") == "Device" or read_number(path / "present") == 0):
        return None
    percent = read_number(path / "capacity") if stores else None
    return Supply(
        battery=kind == "Battery",
        stores=stores,
        online=read_number(path / "online"),
        status=_word(path / "status"),
        percent=percent if percent is not None and 0 <= percent <= 100 else None,
    )


def _is_sink(root: HostRoot, supply: Path) -> bool:
    """Whether a USB supply feeds us rather than we it, by the ports of the same parent device.

    A port of a graphics card of a desktop is a USB supply that is offline or a
    source, which must not make that desktop run on battery (systemd #21988).
    Without a parent its ports cannot be told, and systemd leaves it out.
    """
    parent = _parent(root, supply)
    if parent is None:
        return False
    ports = [port for port in _entries(root.sys / PORTS) if parent in _real(port).parents]
    roles = [role for port in ports if (role := _word(port / "power_role")) is not None]
    sources = any("[source]" in role for role in roles)
    return not sources or any("[sink]" in role for role in roles)


def _parent(root: HostRoot, device: Path) -> Path | None:
    """The device above: every directory of a device has a file `uevent`, others have not."""
    top = _real(root.sys)
    for above in _real(device).parents:
        if above == top:
            return None
        if os.path.exists(above / "uevent"):
            return above
    return None


def _real(path: Path) -> Path:
    """Where a class's link leads; unlike Path.resolve never an error."""
    return Path(os.path.realpath(path))


def _entries(directory: Path) -> list[Path]:
    """Devices of a class, by name; empty where there are none or it cannot be read."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _word(path: Path) -> str | None:
    """A file of one line. Drivers may fail with ENODEV, ENODATA, EAGAIN or EIO."""
    text = read_kernel_text(path)
    return text.strip() if text is not None else None
