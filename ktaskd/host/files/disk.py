"""Find the disk that a file is on, and whether it rotates.

A partition counts as its whole disk. For file systems whose device number is not that of a disk
(btrfs, overlay, tmpfs, network) no disk is known. The drivers of hypervisors report the default,
which is mostly "rotating" even on solid state. So their report is ignored, and an administrator
names such a disk in the configuration.

Source: Documentation/ABI/stable/sysfs-block, sysfs(5) on /sys/dev/block
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.root import HostRoot, read_number

_OF_HYPERVISORS = frozenset({"virtio_blk", "vbd"})
"""Drivers of virtual disks: virtio's and Xen's."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A whole disk.

    Args:
        name: the kernel's name, such as "sda".
        rotating: whether a seek takes milliseconds.
    """

    name: str
    rotating: bool


def read_disk(root: HostRoot, device: int) -> Disk | None:
    """Find the disk of a file's st_dev; None = no disk is known."""
    link = root.sys / "dev/block" / f"{os.major(device)}:{os.minor(device)}"
    try:
        device_dir = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return None
    if os.path.exists(device_dir / "partition"):
        device_dir = device_dir.parent
    rotating = read_number(device_dir / "queue/rotational")
    if rotating is None:
        return None
    return Disk(device_dir.name, rotating == 1 and _driver(device_dir) not in _OF_HYPERVISORS)


def _driver(device_dir: Path) -> str:
    """Name of a disk's driver; "" if there is none."""
    try:
        return (device_dir / "device/driver").readlink().name
    except OSError:
        return ""
