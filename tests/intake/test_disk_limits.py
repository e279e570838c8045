"""Limits of disks, as they are configured."""

from __future__ import annotations

import pytest

from ktaskd.host.files.disk import Disk
from ktaskd.intake.disk_limits import DiskLimits, DiskOf, NamedDisksInvalid, parse_named


def test_named_when_read_then_by_name() -> None:
    assert parse_named("sda=2 /dev/nvme0n1=0") == {"sda": 2, "nvme0n1": 0}
    assert parse_named("") == {}


@pytest.mark.parametrize("text", ["sda", "sda=", "=2", "sda=-1", "sda=two", "mapper/x=1", "sda=" + "9" * 10])
def test_named_when_wrong_then_an_error_that_names_it(text: str) -> None:
    with pytest.raises(NamedDisksInvalid, match='wanted NAME=COUNT as in "sda=2"'):
        parse_named(text)


def test_limits_when_of_disks_then_by_kind_and_name() -> None:
    disks = {1: Disk("sda", True), 2: Disk("sdb", True), 3: Disk("nvme0n1", False), 4: None}
    asked: list[int] = []

    def read(device: int) -> Disk | None:
        asked.append(device)
        return disks[device]

    limits = DiskOf(DiskLimits(rotating=1, other=0, named="sdb=3"), read)
    for _ in range(2):
        assert limits.limits({1, 2, 3, 4}) == {"sda": 1, "sdb": 3}
    assert sorted(asked) == [1, 2, 3, 4]
    assert DiskOf(DiskLimits(rotating=0, other=6), read).limits({1, 3}) == {"nvme0n1": 6}
