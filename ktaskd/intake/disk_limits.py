"""Limits of workers at one disk, as configured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ktaskd.host.files.disk import Disk


class NamedDisksInvalid(ValueError):
    """The list of named disks does not parse."""


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """Limits of workers at one disk at the same time, of all jobs together; 0 = no limit.

    Args:
        rotating: of each disk that turns.
        other: of each disk that does not.
        named: of some disks, in place of those: "sda=2 nvme0n1=6".
    """

    rotating: int = 1
    other: int = 0
    named: str = ""


def parse_named(text: str) -> dict[str, int]:
    """The limits of named disks; raises NamedDisksInvalid."""
    limits = {}
    for word in text.split():
        name, _, count = word.partition("=")
        name = name.removeprefix("/dev/")
        if not name or "/" in name or not (count.isascii() and count.isdigit() and len(count) <= 9):
            raise NamedDisksInvalid(f'got "{word}", wanted NAME=COUNT as in "sda=2"')
        limits[name] = int(count)
    return limits


class DiskOf:
    """Finds the limit of the disk that a file lies on."""

    def __init__(self, limits: DiskLimits, read: Callable[[int], Disk | None]) -> None:
        """Read each device once: what a disk is does not change."""
        self._limits = limits
        self._named = parse_named(limits.named)
        self._read = read
        self._known: dict[int, Disk | None] = {}

    def limits(self, devices: set[int]) -> dict[str, int]:
        """The limits by name of the disk, of those disks that have one."""
        found = {}
        for device in devices:
            if device not in self._known:
                self._known[device] = self._read(device)
            disk = self._known[device]
            if disk is not None and (most := self._limit(disk)):
                found[disk.name] = most
        return found

    def _limit(self, disk: Disk) -> int:
        usual = self._limits.rotating if disk.rotating else self._limits.other
        return self._named.get(disk.name, usual)
