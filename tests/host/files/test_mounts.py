"""The tables of mounts, as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktaskd.host.files.mounts import MountTables, parse_mount_types, read_mount_id


def test_mountinfo_is_read_as_written_by_the_kernel() -> None:
    text = (
        b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:4 - ext3 /dev/root rw,errors=continue\n"
        b"40 35 0:40 / /home/x\\040y rw - fuse.sshfs host:/ - rw\n"
    )
    assert parse_mount_types(text) == {36: "ext3", 40: "fuse.sshfs"}


@pytest.mark.parametrize("separator", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_mount_point_cannot_pretend_to_be_a_line(separator: str) -> None:
    forged = f"41 1 0:1 / /tmp/{separator}99 1 0:1 / /x rw - ext4 x rw".replace(
        "/x rw - ext4", "/x\\040-\\040ext4"
    )
    types = parse_mount_types(f"{forged} rw - fuse me rw\n".encode())
    assert set(types) == {41}


def test_mount_of_a_descriptor_when_in_a_table_then_its_type() -> None:
    fd = os.open("/proc/self/status", os.O_PATH)
    try:
        assert read_mount_id(fd) > 0
        assert MountTables().type_of(fd) == "proc"
    finally:
        os.close(fd)


def test_mount_of_a_descriptor_when_the_kernels_own_then_in_no_table() -> None:
    fd = os.memfd_create("test")
    try:
        assert MountTables().type_of(fd) is None
    finally:
        os.close(fd)


def test_tables_when_asked_about_many_descriptors_then_each_is_read_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fd = os.open("/proc/self/status", os.O_PATH)
    try:
        line = f"{read_mount_id(fd)} 1 0:5 / /proc rw - proc proc rw\n"
        first.write_text("")
        second.write_text(line)
        tables = MountTables(str(first), str(second))
        assert tables.type_of(fd) == "proc"
        first.unlink()
        second.unlink()
        assert tables.type_of(fd) == "proc"
        assert MountTables(str(second)).type_of(fd) is None, "a table that cannot be read has nothing"
    finally:
        os.close(fd)
