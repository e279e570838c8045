"""Disks in a tree of files like /sys."""

from __future__ import annotations

import os
from pathlib import Path

from ktaskd.host.files.disk import Disk, read_disk
from ktaskd.host.root import HostRoot


def make_disk(
    top: Path, name: str, number: str, rotational: str, partition: str = "", part: str = ""
) -> None:
    place = top / "sys/devices/pci/block" / name
    (place / "queue").mkdir(parents=True)
    (place / "queue/rotational").write_text(rotational)
    links = top / "sys/dev/block"
    links.mkdir(parents=True, exist_ok=True)
    (links / number).symlink_to(place)
    if partition:
        (place / partition).mkdir()
        (place / partition / "partition").write_text("1\n")
        (links / part).symlink_to(place / partition)


def test_disk_when_on_a_partition_then_the_whole_disk(tmp_path: Path) -> None:
    make_disk(tmp_path, "sda", "8:0", "1\n", "sda1", "8:1")
    make_disk(tmp_path, "nvme0n1", "259:0", "0\n")
    root = HostRoot(tmp_path)
    assert read_disk(root, os.makedev(8, 0)) == Disk("sda", True)
    assert read_disk(root, os.makedev(8, 1)) == Disk("sda", True)
    assert read_disk(root, os.makedev(259, 0)) == Disk("nvme0n1", False)


def test_disk_when_a_hypervisor_reports_rotating_then_not_believed(tmp_path: Path) -> None:
    for i, (name, driver) in enumerate((("vda", "virtio_blk"), ("xvda", "vbd"), ("sda", "sd"))):
        make_disk(tmp_path, name, f"250:{i}", "1\n")
        device = tmp_path / "sys/devices/pci/block" / name / "device"
        device.mkdir()
        (device / "driver").symlink_to(f"../../bus/drivers/{driver}")
    found = [read_disk(HostRoot(tmp_path), os.makedev(250, i)) for i in range(3)]
    assert found == [Disk("vda", False), Disk("xvda", False), Disk("sda", True)]


def test_disk_when_the_file_system_has_none_then_none(tmp_path: Path) -> None:
    make_disk(tmp_path, "sda", "8:0", "what\n")
    (tmp_path / "sys/dev/block/0:9").symlink_to("0:9")
    root = HostRoot(tmp_path)
    for number in ((0, 41), (0, 9), (8, 0)):
        assert read_disk(root, os.makedev(*number)) is None


def test_disk_when_real_then_an_answer() -> None:
    found = read_disk(HostRoot(), os.stat(__file__).st_dev)
    assert found is None or found.name
