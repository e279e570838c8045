from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktaskd.host.cgroups.cgroup import LEVELS_MAX, Mount, parse_memberships, parse_mounts, read_cpu_quota
from ktaskd.host.root import HostRoot
from tests.support.machine import make_machine

PID = 4711
UNIFIED = "/sys/fs/cgroup"
LEGACY = "/sys/fs/cgroup/cpu,cpuacct"


def mount_line(point: str, *, root: str = "/", kind: str = "cgroup2", options: str = "rw") -> str:
    return f"29 23 0:26 {root} {point} rw,nosuid shared:4 master:1 - {kind} cgroup {options}\n"


V2_MOUNT = mount_line(UNIFIED)
V1_MOUNT = mount_line(LEGACY, kind="cgroup", options="rw,cpu,cpuacct")
OTHER_MOUNTS = (
    "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


def quota(top: Path, mounts: str, membership: str, limits: dict[str, str]) -> float:
    files = {
        "/proc/self/mountinfo": OTHER_MOUNTS + mounts,
        f"/proc/{PID}/cgroup": membership,
        **limits,
    }
    return read_cpu_quota(make_machine(top, files), PID)


def v2(top: Path, path: str, limits: dict[str, str]) -> float:
    files = {f"{UNIFIED}{group}/cpu.max": text for group, text in limits.items()}
    return quota(top, V2_MOUNT, f"0::{path}\n", files)


def v1(top: Path, path: str, limits: dict[str, tuple[int, int]]) -> float:
    files = {}
    for group, (quota_us, period_us) in limits.items():
        files[f"{LEGACY}{group}/cpu.cfs_quota_us"] = f"{quota_us}\n"
        files[f"{LEGACY}{group}/cpu.cfs_period_us"] = f"{period_us}\n"
    return quota(top, V1_MOUNT, f"9:name=systemd:/x\n4:cpu,cpuacct:{path}\n0::/init.scope\n", files)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000", 0.0),
        ("150000 100000", 1.5),
        ("50000 100000", 0.5),
        ("1000 1000000", 0.001),
        ("", 0.0),
        ("garbage", 0.0),
        ("1 2 3", 0.0),
        ("100000 0", 0.0),
        ("-1 100000", 0.0),
        ("9" * 400 + " 1", 0.0),
        ("9" * 5000 + " 1", 0.0),
        ("\udcff\udcff 100000", 0.0),
    ],
)
def test_quota_when_v2_then_as_written(tmp_path: Path, text: str, cpus: float) -> None:
    assert v2(tmp_path, "/a", {"/a": text + "\n"}) == cpus


def test_quota_when_v2_parent_is_tighter_then_parent_counts(tmp_path: Path) -> None:
    assert v2(tmp_path, "/p/c", {"/p": "200000 100000\n", "/p/c": "400000 100000\n"}) == 2.0


def test_quota_when_v2_child_is_tighter_then_child_counts(tmp_path: Path) -> None:
    assert v2(tmp_path, "/p/c", {"/p": "400000 100000\n", "/p/c": "100000 50000\n"}) == 2.0
    assert v2(tmp_path, "/p/c", {"/p": "400000 100000\n", "/p/c": "150000 100000\n"}) == 1.5


def test_quota_when_v2_level_between_is_missing_then_others_count(tmp_path: Path) -> None:
    assert v2(tmp_path, "/p/gone/c", {"/p": "300000 100000\n"}) == 3.0


def test_quota_when_nested_without_end_then_the_upper_levels_count(tmp_path: Path) -> None:
    path = "/d" * 2000
    limits = {"/d" * LEVELS_MAX: "300000 100000\n", "/d" * (LEVELS_MAX + 1): "100000 100000\n"}
    assert v2(tmp_path, path, limits) == 3.0


def test_quota_when_limit_only_at_top_of_mount_then_counts(tmp_path: Path) -> None:
    # A container's own group is the top of its view, and has the file.
    assert v2(tmp_path, "/", {"": "300000 100000\n"}) == 3.0
    assert v2(tmp_path, "/deep/er", {"": "300000 100000\n"}) == 3.0


def test_quota_when_cgroup_was_removed_then_its_ancestors_count(tmp_path: Path) -> None:
    assert v2(tmp_path, "/p/c (deleted)", {"/p": "300000 100000\n"}) == 3.0


def test_quota_when_v1_then_quota_through_period(tmp_path: Path) -> None:
    assert v1(tmp_path, "/a", {"/a": (150000, 100000)}) == 1.5


def test_quota_when_v1_leaf_is_unlimited_then_parent_counts(tmp_path: Path) -> None:
    assert v1(tmp_path, "/p/c", {"/p": (200000, 100000), "/p/c": (-1, 100000)}) == 2.0
    assert v1(tmp_path, "/free", {"/free": (-1, 100000)}) == 0.0


def test_quota_when_v1_child_is_wider_than_parent_then_parent_counts(tmp_path: Path) -> None:
    assert v1(tmp_path, "/p/c", {"/p": (200000, 100000), "/p/c": (400000, 100000)}) == 2.0


def test_quota_when_v1_period_is_missing_then_unlimited(tmp_path: Path) -> None:
    limits = {f"{LEGACY}/a/cpu.cfs_quota_us": "100000\n"}
    assert quota(tmp_path, V1_MOUNT, "4:cpu,cpuacct:/a\n", limits) == 0.0


def test_quota_when_hybrid_then_v1_counts(tmp_path: Path) -> None:
    mounts = V1_MOUNT + mount_line("/sys/fs/cgroup/unified")
    limits = {
        f"{LEGACY}/a/cpu.cfs_quota_us": "300000\n",
        f"{LEGACY}/a/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/unified/a/cpu.max": "100000 100000\n",
    }
    assert quota(tmp_path, mounts, "4:cpu,cpuacct:/a\n0::/a\n", limits) == 3.0


def test_quota_when_hybrid_and_cpu_is_in_v2_then_v2_counts(tmp_path: Path) -> None:
    limits = {"/sys/fs/cgroup/unified/a/cpu.max": "100000 100000\n"}
    mounts = mount_line("/sys/fs/cgroup/unified")
    assert quota(tmp_path, mounts, "3:cpuset:/\n0::/a\n", limits) == 1.0


def test_quota_when_mount_shows_a_part_then_path_is_below_it(tmp_path: Path) -> None:
    # A bind mount of one subtree, as in older containers.
    mounts = mount_line(UNIFIED, root="/docker/abc")
    limits = {f"{UNIFIED}/job/cpu.max": "200000 100000\n", f"{UNIFIED}/docker/cpu.max": "100000 100000\n"}
    assert quota(tmp_path, mounts, "0::/docker/abc/job\n", limits) == 2.0


@pytest.mark.parametrize("path", ["/docker/abcd", "/docker", "/elsewhere", "/../sibling", "/a/../../b"])
def test_quota_when_path_is_not_below_the_mount_then_its_top_counts(tmp_path: Path, path: str) -> None:
    mounts = mount_line(UNIFIED, root="/docker/abc")
    limits = {f"{UNIFIED}/cpu.max": "200000 100000\n", "/sys/fs/b/cpu.max": "100000 100000\n"}
    assert quota(tmp_path, mounts, f"0::{path}\n", limits) == 2.0


def test_quota_when_path_leaves_the_mount_then_nothing_outside_is_read(tmp_path: Path) -> None:
    limits = {f"{UNIFIED}/cpu.max": "200000 100000\n", "/sys/fs/sibling/cpu.max": "100000 100000\n"}
    assert quota(tmp_path, V2_MOUNT, "0::/../sibling\n", limits) == 2.0


def test_quota_when_mount_root_is_above_our_namespace_then_top_counts(tmp_path: Path) -> None:
    mounts = mount_line(UNIFIED, root="/../..")
    assert quota(tmp_path, mounts, "0::/a\n", {f"{UNIFIED}/cpu.max": "200000 100000\n"}) == 2.0


def test_quota_when_mounted_twice_then_the_one_that_shows_most(tmp_path: Path) -> None:
    mounts = mount_line("/part", root="/p/c") + mount_line("/whole")
    limits = {"/part/cpu.max": "400000 100000\n", "/whole/p/cpu.max": "200000 100000\n"}
    assert quota(tmp_path, mounts, "0::/p/c\n", limits) == 2.0


def test_quota_when_names_have_blanks_and_colons_then_found(tmp_path: Path) -> None:
    mounts = mount_line(r"/mnt/my\040cgroup\134s", root=r"/a\040b")
    limits = {"/mnt/my cgroup\\s/c:d e/cpu.max": "200000 100000\n"}
    assert quota(tmp_path, mounts, "0::/a b/c:d e\n", limits) == 2.0


def test_quota_when_a_name_has_a_line_separator_then_no_line_is_smuggled_in(tmp_path: Path) -> None:
    limits = {f"{UNIFIED}/evil/cpu.max": "100000 100000\n", f"{UNIFIED}/cpu.max": "200000 100000\n"}
    assert quota(tmp_path, V2_MOUNT, "0::/x\u20280::/evil\n", limits) == 2.0


def test_mounts_when_a_point_has_a_line_separator_then_one_mount() -> None:
    assert parse_mounts(mount_line("/mnt/a\u2028b")) == (Mount("/", "/mnt/a\u2028b", legacy=False),)


@pytest.mark.parametrize(
    ("mounts", "membership"),
    [
        ("", "0::/a\n"),
        (V2_MOUNT, ""),
        (V2_MOUNT, "garbage\n0::relative\n::\n"),
        ("garbage - x\n - cgroup2 \n", "0::/a\n"),
        (V1_MOUNT, "3:cpuset:/a\n"),
        (V2_MOUNT, "0::" + "/long" * 4000 + "\n"),
        (V2_MOUNT, "0::/nul\0byte\n"),
    ],
)
def test_quota_when_unreadable_then_unlimited(tmp_path: Path, mounts: str, membership: str) -> None:
    assert quota(tmp_path, mounts, membership, {}) == 0.0


def test_quota_when_no_such_process_then_unlimited(tmp_path: Path) -> None:
    assert read_cpu_quota(HostRoot(tmp_path), PID) == 0.0


def test_quota_when_real_machine_then_mounts_and_membership_fit() -> None:
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    paths = parse_memberships(Path("/proc/self/cgroup").read_text())
    assert all(Path(mount.point).is_dir() for mount in mounts)
    assert paths
    assert read_cpu_quota(HostRoot(), os.getpid()) >= 0.0


def test_quota_when_real_v1_group_has_a_limit_then_read() -> None:
    mounts = [mount for mount in parse_mounts(Path("/proc/self/mountinfo").read_text()) if mount.legacy]
    if not mounts or not os.access(mounts[0].point, os.W_OK):
        pytest.skip("no cgroup v1 with the cpu controller that we may write")
    group = Path(mounts[0].point) / f"ktaskd-test-{os.getpid()}"
    group.mkdir()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    try:
        (group / "cpu.cfs_quota_us").write_text("150000")
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cgroup.procs").write_text(str(child))
        found = read_cpu_quota(HostRoot(), child)
    finally:
        os.close(write_end)
        os.close(read_end)
        os.waitpid(child, 0)
        group.rmdir()
    assert found == 1.5
