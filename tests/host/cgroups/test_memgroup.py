"""Memory cgroups of a process: the tightest limit, the group that has it, and how to enter it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.cgroups.cgroup import LEVELS_MAX
from ktaskd.host.cgroups.memgroup import (
    counts_against,
    read_memory_group,
    read_memory_limit,
    why_not_enter,
)
from ktaskd.host.root import HostRoot
from ktaskd.model.memory import MemoryLimit
from tests.host.cgroups.test_cgroup import OTHER_MOUNTS, mount_line
from tests.support.cgroups import cgroup, own_group, sleeper
from tests.support.machine import make_machine

PID = 4711
MIB = 1 << 20
UNIFIED = "/sys/fs/cgroup"
LEGACY = "/sys/fs/cgroup/memory"
V2_MOUNT = mount_line(UNIFIED)
V1_MOUNT = mount_line(LEGACY, kind="cgroup", options="rw,memory")
NO_LIMIT_4K, NO_LIMIT_64K = 9223372036854771712, 9223372036854710272


def machine(top: Path, mounts: str, membership: str, limits: dict[str, str]) -> HostRoot:
    files = {"/proc/self/mountinfo": OTHER_MOUNTS + mounts, f"/proc/{PID}/cgroup": membership, **limits}
    return make_machine(top, files)


def found(top: Path, root: HostRoot) -> tuple[int, str, str] | None:
    """The limit, with the names that its groups have on that machine."""
    limit = read_memory_limit(root, PID)
    if limit is None:
        return None
    return limit.limit_bytes, limit.limiting.removeprefix(str(top)), limit.group.removeprefix(str(top))


def v2(top: Path, path: str, limits: dict[str, str]) -> tuple[int, str, str] | None:
    """`limits` by group and file: {"/a:max": "5"}."""
    files = {}
    for name, text in limits.items():
        group, _, file = name.rpartition(":")
        files[f"{UNIFIED}{group}/memory.{file}"] = text + "\n"
    return found(top, machine(top, V2_MOUNT, f"0::{path}\n", files))


def v1(top: Path, path: str, limits: dict[str, int]) -> tuple[int, str, str] | None:
    files = {f"{LEGACY}{group}/memory.limit_in_bytes": f"{limit}\n" for group, limit in limits.items()}
    return found(top, machine(top, V1_MOUNT, f"4:memory:{path}\n1:cpu:/other\n0::/other\n", files))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max", None),
        ("", None),
        ("garbage", None),
        ("-1", None),
        ("1e9", None),
        ("9" * 30, None),
        ("\udcff", None),
        ("0", 0),
        ("4096", 4096),
        ("100663296", 96 * MIB),
    ],
)
def test_limit_when_v2_then_as_written(tmp_path: Path, text: str, limit: int | None) -> None:
    got = v2(tmp_path, "/a", {"/a:max": text})
    assert got == (None if limit is None else (limit, f"{UNIFIED}/a", f"{UNIFIED}/a"))


def test_limit_when_v2_is_throttled_earlier_then_that_is_the_limit(tmp_path: Path) -> None:
    got = v2(tmp_path, "/a/b", {"/a:max": "100", "/a/b:max": "max", "/a/b:high": "90", "/a:high": "max"})
    assert got == (90, f"{UNIFIED}/a/b", f"{UNIFIED}/a/b")


def test_limit_when_in_an_ancestor_then_its_group_is_named(tmp_path: Path) -> None:
    assert v2(tmp_path, "/a/b/c", {"/a:max": "100", "/a/b:max": "max", "/a/b/c:max": "200"}) == (
        100,
        f"{UNIFIED}/a",
        f"{UNIFIED}/a/b/c",
    )


def test_limit_when_two_are_equal_then_the_upper_one(tmp_path: Path) -> None:
    assert v2(tmp_path, "/a/b", {"/a:max": "100", "/a/b:max": "100"}) == (
        100,
        f"{UNIFIED}/a",
        f"{UNIFIED}/a/b",
    )


@pytest.mark.parametrize("none", [NO_LIMIT_4K, NO_LIMIT_64K])
def test_limit_when_v1_then_the_huge_number_is_none(tmp_path: Path, none: int) -> None:
    assert v1(tmp_path, "/a", {"": none, "/a": none}) is None
    assert v1(tmp_path, "/a", {"": none, "/a": 96 * MIB}) == (96 * MIB, f"{LEGACY}/a", f"{LEGACY}/a")


def test_limit_when_v1_leaf_has_none_then_that_of_its_parent(tmp_path: Path) -> None:
    got = v1(tmp_path, "/p/c", {"": NO_LIMIT_4K, "/p": 50 * MIB, "/p/c": NO_LIMIT_4K})
    assert got == (50 * MIB, f"{LEGACY}/p", f"{LEGACY}/p/c")


def test_limit_when_hybrid_then_v1_decides(tmp_path: Path) -> None:
    mounts = mount_line("/sys/fs/cgroup/unified") + V1_MOUNT
    files = {
        f"{LEGACY}/a/memory.limit_in_bytes": "300\n",
        "/sys/fs/cgroup/unified/a/memory.max": "100\n",
    }
    root = machine(tmp_path, mounts, "4:memory:/a\n0::/a\n", files)
    assert found(tmp_path, root) == (300, f"{LEGACY}/a", f"{LEGACY}/a")


def test_limit_when_hybrid_and_memory_is_in_v2_then_v2_decides(tmp_path: Path) -> None:
    mounts = mount_line(UNIFIED + "/unified") + mount_line("/cpu", kind="cgroup", options="rw,cpu")
    root = machine(tmp_path, mounts, "1:cpu:/b\n0::/a\n", {f"{UNIFIED}/unified/a/memory.max": "100\n"})
    assert found(tmp_path, root) == (100, f"{UNIFIED}/unified/a", f"{UNIFIED}/unified/a")


def test_limit_when_the_mount_shows_a_part_then_groups_are_below_it(tmp_path: Path) -> None:
    mounts = mount_line(LEGACY, root="/docker/abc", kind="cgroup", options="rw,memory")
    files = {f"{LEGACY}/memory.limit_in_bytes": "500\n", f"{LEGACY}/in/memory.limit_in_bytes": "300\n"}
    root = machine(tmp_path, mounts, "4:memory:/docker/abc/in\n", files)
    assert found(tmp_path, root) == (300, f"{LEGACY}/in", f"{LEGACY}/in")


@pytest.mark.parametrize("path", ["/docker/abcd", "/", "/../sibling", "/docker/abc/../../x"])
def test_limit_when_no_mount_shows_the_group_then_its_top_and_no_group_to_enter(
    tmp_path: Path, path: str
) -> None:
    mounts = mount_line(LEGACY, root="/docker/abc", kind="cgroup", options="rw,memory")
    files = {f"{LEGACY}/memory.limit_in_bytes": "500\n", "/sys/fs/cgroup/x/memory.limit_in_bytes": "1\n"}
    root = machine(tmp_path, mounts, f"4:memory:{path}\n", files)
    assert found(tmp_path, root) == (500, LEGACY, "")
    assert read_memory_group(root, PID) == str(tmp_path) + LEGACY


def test_limit_when_names_are_hostile_then_found_and_nothing_smuggled_in(tmp_path: Path) -> None:
    files = {f"{LEGACY}/a b:c\\d/memory.limit_in_bytes": "100\n", f"{LEGACY}/e/memory.limit_in_bytes": "1\n"}
    root = machine(tmp_path, V1_MOUNT, "4:memory:/a b:c\\d\n", files)
    assert found(tmp_path, root) == (100, f"{LEGACY}/a b:c\\d", f"{LEGACY}/a b:c\\d")
    root = machine(tmp_path, V1_MOUNT, "4:memory:/x\u20284:memory:/e\n", files)
    assert found(tmp_path, root) is None


def test_limit_when_nested_without_end_then_the_upper_levels_count(tmp_path: Path) -> None:
    deep = "/d" * (LEVELS_MAX + 5)
    limits = {"/d" * LEVELS_MAX: 300, "/d" * (LEVELS_MAX + 1): 100}
    assert v1(tmp_path, deep, limits) == (300, LEGACY + "/d" * LEVELS_MAX, LEGACY + deep)


def test_limit_when_there_are_no_cgroups_then_none(tmp_path: Path) -> None:
    assert found(tmp_path, machine(tmp_path, "", "0::/a\n", {})) is None
    assert found(tmp_path, machine(tmp_path, V1_MOUNT, "", {})) is None
    assert read_memory_group(machine(tmp_path, "", "0::/a\n", {}), PID) == ""


def test_limit_when_the_process_is_gone_then_not_taken_for_none(tmp_path: Path) -> None:
    root = make_machine(tmp_path, {"/proc/self/mountinfo": V1_MOUNT})
    with pytest.raises(ProcessLookupError):
        read_memory_limit(root, PID)
    assert read_memory_group(root, PID) == ""


# -- whose account it is ------------------------------------------------------------


@pytest.mark.parametrize(
    ("limiting", "groups", "ours"),
    [
        ("/m/a", ["/m/a"], True),
        ("/m/a", ["/m/a/b", "/m/a"], True),
        ("/m/a", ["/m/ab"], False),
        ("/m/a", ["/m"], False),
        ("/m/a", ["/m/a/b", "/m"], False),
        ("/m/a", ["/m/a", ""], False),
        ("/m/a", [], False),
        ("/m", ["/m/x", "/m"], True),
    ],
)
def test_account_when_compared_then_all_must_be_below(limiting: str, groups: list[str], ours: bool) -> None:
    assert counts_against(MemoryLimit(1, limiting, "/m/a/client"), groups) is ours


NAMES = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4).map(
    lambda names: "".join("/" + n for n in names)
)


@given(client=NAMES, worker=NAMES, limits=st.dictionaries(NAMES, st.integers(1, 5), max_size=6))
def test_rule_when_workers_are_left_where_they_are_then_the_tightest_limit_holds_for_them(
    client: str, worker: str, limits: dict[str, int]
) -> None:
    """For any tree: if no guest is needed, the memory of a worker counts against the client's limit."""

    def above(path: str) -> set[str]:
        parts = path.split("/")
        return {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}

    bounding = [limits[group] for group in above(client) if group in limits]
    if not bounding:
        return
    tightest = min(bounding)
    limiting = min((group for group in above(client) if limits.get(group) == tightest), key=len)
    limit = MemoryLimit(tightest, "/m" + limiting, "/m" + client)
    charged = {group: limits[group] for group in above(worker) if group in limits}
    if counts_against(limit, ["/m" + worker]):
        assert min(charged.values()) <= tightest
    else:
        assert limiting not in charged


# -- getting there --------------------------------------------------------------------


def test_entering_when_the_group_is_gone_or_not_mounted_then_the_reason(tmp_path: Path) -> None:
    assert why_not_enter(str(tmp_path / "no"), []) == f"{tmp_path}/no/cgroup.procs: No such file or directory"
    assert why_not_enter("", [str(tmp_path)]) == "it is not below any cgroup mount here"


def test_way_in_when_v2_then_the_common_ancestor_counts_too(tmp_path: Path) -> None:
    for name in ("", "a", "a/ours", "a/theirs"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "cgroup.controllers").write_text("memory\n")
    theirs, ours = tmp_path / "a/theirs", tmp_path / "a/ours"
    (theirs / "cgroup.procs").write_text("")
    assert why_not_enter(str(theirs), [str(ours)]) == f"{tmp_path}/a/cgroup.procs: No such file or directory"
    (tmp_path / "a/cgroup.procs").write_text("")
    assert why_not_enter(str(theirs), [str(ours), ""]) == ""
    (theirs / "cgroup.controllers").unlink()
    (tmp_path / "a/cgroup.procs").unlink()
    assert why_not_enter(str(theirs), [str(ours)]) == "", "v1 asks for the group alone"


@pytest.mark.other_uid
def test_limit_when_the_group_is_real_then_read_and_open() -> None:
    parent = own_group("memory")
    with (
        cgroup(parent, {"memory.limit_in_bytes": str(96 * MIB)}) as limited,
        cgroup(limited, name="below") as below,
        sleeper(below) as pid,
    ):
        assert read_memory_limit(HostRoot(), pid) == MemoryLimit(96 * MIB, str(limited), str(below))
        assert read_memory_group(HostRoot(), pid) == str(below)
        assert why_not_enter(str(below), [str(parent)]) == ""
        (limited / "memory.limit_in_bytes").write_text("-1")
        ours = read_memory_limit(HostRoot(), os.getpid())
        unlimited = read_memory_limit(HostRoot(), pid)
        assert unlimited is None or (ours is not None and unlimited.limiting == ours.limiting)
