"""The demo takes no more memory and disk space than is free."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support.machine import make_machine
from tools import demo, room

MIB = 1 << 20


def test_free_memory_when_no_group_then_the_machines(tmp_path: Path) -> None:
    make_machine(tmp_path, {"/proc/self/cgroup": "0::/\n"})
    assert 0 < room.free_memory(tmp_path) <= psutil.virtual_memory().total


@pytest.mark.parametrize("limited", ["/a", "/a/b"])
def test_free_memory_when_a_group_is_limited_then_less(tmp_path: Path, limited: str) -> None:
    group = f"/sys/fs/cgroup{limited}"
    make_machine(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/a/b\n",
            "/sys/fs/cgroup/memory.max": "max\n",
            f"{group}/memory.max": "1000000\n",
            f"{group}/memory.current": "700000\n",
            f"{group}/memory.stat": "anon 500000\nactive_file 40000\ninactive_file 60000\n",
        },
    )
    assert room.free_memory(tmp_path) == 400_000


def test_free_memory_when_a_group_of_version_1_then_less(tmp_path: Path) -> None:
    group = "/sys/fs/cgroup/memory/a"
    make_machine(
        tmp_path,
        {
            "/proc/self/cgroup": "2:cpu,cpuacct:/x\n1:memory:/a\n0::/\n",
            f"{group}/memory.limit_in_bytes": "1000000\n",
            f"{group}/memory.usage_in_bytes": "700000\n",
        },
    )
    assert room.free_memory(tmp_path) == 300_000


def test_is_memory_when_asked_then_as_mounted() -> None:
    assert room.is_memory(Path("/dev/shm")) == ("tmpfs" in mounted("/dev/shm"))
    assert not room.is_memory(Path("/proc"))


def mounted(where: str) -> set[str]:
    return {one.fstype for one in psutil.disk_partitions(all=True) if one.mountpoint == where}


def have(monkeypatch: pytest.MonkeyPatch, *, disk: int, memory: int, is_memory: bool = False) -> None:
    monkeypatch.setattr(room, "free_disk", lambda directory: disk)
    monkeypatch.setattr(room, "free_memory", lambda: memory)
    monkeypatch.setattr(room, "is_memory", lambda directory: is_memory)


@pytest.mark.parametrize(
    ("disk", "memory", "size"),
    [(9000, 9000, 1024), (3328, 3328, 1024), (3327, 9000, 512), (9000, 900, 128), (300, 9000, 8)],
)
def test_size_when_room_then_the_largest_half_that_fits(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    disk: int,
    memory: int,
    size: int,
) -> None:
    have(monkeypatch, disk=disk * MIB, memory=memory * MIB)
    assert demo.fitting(1024 * MIB, Path("/tmp/x")) == size * MIB
    said = capsys.readouterr().out
    assert said.count("\n") == (size < 1024)
    assert (f"{size}.0 MiB instead of 1.0 GiB: /tmp has" in said) == (size < 1024)


def test_size_when_files_are_memory_then_they_count_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, disk=9000 * MIB, memory=900 * MIB, is_memory=True)
    assert demo.fitting(1024 * MIB, Path("/tmp/x")) == 128 * MIB


def test_size_when_no_room_at_all_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, disk=100 * MIB, memory=9000 * MIB)
    with pytest.raises(demo.NoRoom, match=r"/tmp has 100\.0 MiB free, .*needs 259\.0 MiB of each"):
        demo.fitting(1024 * MIB, Path("/tmp/x"))
