"""Which disk a file lies on, and whether it turns.

A partition counts as its whole disk. File systems whose device number is not
that of a disk (btrfs, overlay, tmpfs, network) are on none that is known. What a
hypervisor's own drivers say of turning is what was not set otherwise, and mostly 1
on solid state: it is not believed, and an administrator names such a disk.

Source: Documentation/ABI/stable/sysfs-block, sysfs(5) on /sys/dev/block
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.root import HostRoot, read_number

_OF_HYPERVISORS = frozenset({"virtio_blk", "vbd"})
"""Drivers of disks that are not there: virtio's and Xen's."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A whole disk.

    Args:
        name: as the kernel calls it, "sda".
        rotating: whether moving to another place takes it milliseconds.
    """

    name: str
    rotating: bool


def read_disk(root: HostRoot, device: int) -> Disk | None:
    """The disk of a file's st_dev; None = it is on none that is known."""
    link = root.sys / "dev/block" / f"{os.major(device)}:{os.minor(device)}"
    try:
        place = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return None
    if os.path.exists(place / "partition"):
        place = place.parent
    rotating = read_number(place / "queue/rotational")
    if rotating is None:
        return None
    return Disk(place.name, rotating == 1 and _driver(place) not in _OF_HYPERVISORS)


def _driver(place: Path) -> str:
    """Name of a disk's driver; "" where there is none."""
    try:
        return (place / "device/driver").readlink().name
    except OSError:
        return ""
