from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktaskd.host.cgroups.cpugroup import CpuGroups, describe, gives_way_by, read_cpu_groups, why_not
from ktaskd.host.root import HostRoot
from tests.host.cgroups.test_cgroup import LEGACY, UNIFIED, V1_MOUNT, V2_MOUNT, mount_line
from tests.support.machine import make_machine

OWN = "ktaskd-idle.4026531836.7.99"


def v2(top: Path, path: str, groups: dict[str, str], *, enclosed: bool = False) -> HostRoot:
    """A machine with cgroup v2: groups that have a weight, with their cpu.idle."""
    files = {"/proc/self/mountinfo": V2_MOUNT, "/proc/self/cgroup": f"0::{path}\n"}
    for group, idle in groups.items():
        files[f"{UNIFIED}{group}/cpu.weight"] = "100\n"
        files[f"{UNIFIED}{group}/cpu.idle"] = f"{idle}\n"
    if enclosed:
        files[f"{UNIFIED}/cgroup.type"] = "domain\n"
    return make_machine(top, files)


def v1(top: Path, path: str, groups: dict[str, str], *, enclosed: bool = False) -> HostRoot:
    files = {"/proc/self/mountinfo": V1_MOUNT, "/proc/self/cgroup": f"4:cpu,cpuacct:{path}\n0::/init.scope\n"}
    for group, idle in groups.items():
        files[f"{LEGACY}{group}/cpu.idle"] = f"{idle}\n"
    if not enclosed:
        files[f"{LEGACY}/release_agent"] = "\n"
    return make_machine(top, files)


@pytest.mark.parametrize(
    ("path", "groups", "idle", "by"),
    [
        ("/", {}, (), "autogroup"),
        ("/ktaskd.slice", {"/ktaskd.slice": "1"}, (True,), "idle slice"),
        (
            "/ktaskd.slice/a.service",
            {"/ktaskd.slice": "1", "/ktaskd.slice/a.service": "0"},
            (True, False),
            "idle slice",
        ),
        # systemd makes ktaskd-idle.slice a child of ktaskd.slice, which has the ordinary weight.
        (
            "/ktaskd.slice/ktaskd-idle.slice",
            {"/ktaskd.slice": "0", "/ktaskd.slice/ktaskd-idle.slice": "1"},
            (False, True),
            "",
        ),
        (
            "/system.slice/a.service",
            {"/system.slice": "0", "/system.slice/a.service": "0"},
            (False, False),
            "",
        ),
        (f"/{OWN}", {f"/{OWN}": "1"}, (True,), "idle cgroup"),
        (f"/{OWN}", {f"/{OWN}": "0"}, (False,), ""),
    ],
)
@pytest.mark.parametrize("make", [v1, v2])
def test_place_when_in_a_group_then_only_the_topmost_one_decides(
    make: object, tmp_path: Path, path: str, groups: dict[str, str], idle: tuple[bool, ...], by: str
) -> None:
    assert callable(make)
    place = read_cpu_groups(make(tmp_path, path, groups))
    assert (place.path, place.idle, place.enclosed) == (path, idle, False)
    assert gives_way_by(place, 19, "idle") == by


def test_place_when_v2_has_no_cpu_controller_then_the_session_counts(tmp_path: Path) -> None:
    place = read_cpu_groups(v2(tmp_path, "/user.slice/x.scope", {}))
    assert place == CpuGroups("/user.slice/x.scope")
    assert gives_way_by(place, 19, "idle") == "autogroup"
    assert gives_way_by(place, 0, "idle") == ""


@pytest.mark.parametrize("make", [v1, v2])
def test_place_when_in_a_container_then_enclosed_and_sessions_do_not_count(
    make: object, tmp_path: Path
) -> None:
    assert callable(make)
    place = read_cpu_groups(make(tmp_path, "/", {}, enclosed=True))
    assert place == CpuGroups("/", enclosed=True)
    assert gives_way_by(place, 0, "idle") == "SCHED_IDLE"
    assert gives_way_by(place, 19, "normal") == ""


def test_place_when_the_mount_shows_a_container_then_what_is_above_is_no_level(tmp_path: Path) -> None:
    mount = mount_line(UNIFIED, root="/docker/abc")
    files = {"/proc/self/mountinfo": mount, "/proc/self/cgroup": "0::/docker/abc/inner\n"}
    for name in ("cpu.weight", "cgroup.type"):
        files[f"{UNIFIED}/{name}"] = files[f"{UNIFIED}/inner/{name}"] = "100\n"
    place = read_cpu_groups(make_machine(tmp_path, files))
    assert place == CpuGroups("/docker/abc/inner", "inner", (False,), True)


@pytest.mark.parametrize("files", [{}, {"/proc/self/mountinfo": V2_MOUNT}, {"/proc/self/cgroup": "0::/x\n"}])
def test_place_when_there_is_nothing_to_read_then_the_root(tmp_path: Path, files: dict[str, str]) -> None:
    root = make_machine(tmp_path, files)
    assert read_cpu_groups(root) == CpuGroups()
    assert "no cgroup hierarchy" in describe(root)


def test_gives_way_when_there_are_no_autogroups_then_by_the_policy() -> None:
    assert gives_way_by(CpuGroups("/"), None, "idle") == "SCHED_IDLE"
    assert gives_way_by(CpuGroups("/"), None, "normal") == ""


def test_why_not_when_asked_then_what_counts_and_what_to_do() -> None:
    assert "(system.slice)" in why_not(CpuGroups("/system.slice/a", "system.slice", (False, False)))
    assert "counts only inside" in why_not(CpuGroups("/a/b", "a", (False, True)))
    assert "autogroup" in why_not(CpuGroups("/"))


def test_place_when_this_machine_is_read_then_as_the_kernel_says() -> None:
    place = read_cpu_groups(HostRoot(), str(os.getpid()))
    assert place == read_cpu_groups(HostRoot())
    assert not place.path or f":{place.path}\n" in Path("/proc/self/cgroup").read_text()
    assert describe(HostRoot()).startswith(("v1 at", "v2 at", "none"))
