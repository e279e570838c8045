from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.host.cgroups.cgroup import cpu_levels
from ktaskd.host.cgroups.cpugroup import OWN_PREFIX, read_cpu_groups
from ktaskd.host.cgroups.idlegroup import (
    IdleGroupRefused,
    find_parent,
    make_idle_group,
    own_name,
    remove_stale,
)
from ktaskd.host.root import HostRoot
from tests.host.cgroups.test_cgroup import LEGACY, UNIFIED, V1_MOUNT, V2_MOUNT
from tests.support.groups import idle_group, own_groups
from tests.support.machine import make_machine

PLAIN = {"/proc/1/comm": "init\n"}
V1 = {**PLAIN, "/proc/self/mountinfo": V1_MOUNT, "/proc/self/cgroup": "4:cpu,cpuacct:/\n0::/\n"}
V2 = {
    **PLAIN,
    "/proc/self/mountinfo": V2_MOUNT,
    "/proc/self/cgroup": "0::/\n",
    f"{UNIFIED}/cgroup.subtree_control": "cpu memory\n",
}


# -- where one may be made ------------------------------------------------------------


@pytest.mark.parametrize(("files", "parent"), [(V1, LEGACY), (V2, UNIFIED)])
def test_parent_when_the_daemon_is_in_the_root_then_that(
    tmp_path: Path, files: dict[str, str], parent: str
) -> None:
    assert find_parent(make_machine(tmp_path, files)) == tmp_path / parent[1:]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({**V2, "/run/systemd/system/x": ""}, "systemd manages"),
        ({**V1, "/proc/1/comm": "systemd\n"}, "systemd manages"),
        (PLAIN, "no cgroup file system"),
        ({**V2, f"{UNIFIED}/cgroup.subtree_control": "memory pids\n"}, "cpu controller is off"),
        ({**V2, "/proc/self/cgroup": "0::/a/b\n"}, "in the cgroup /a/b"),
        ({**V1, "/proc/self/cgroup": "4:cpu,cpuacct:/a\n0::/\n"}, "in the cgroup /a,"),
    ],
)
def test_parent_when_a_group_would_not_help_or_is_not_ours_to_make_then_why(
    tmp_path: Path, files: dict[str, str], why: str
) -> None:
    with pytest.raises(IdleGroupRefused, match=why):
        find_parent(make_machine(tmp_path, files))


def test_group_when_the_kernel_has_no_cpu_idle_then_refused_and_nothing_left(tmp_path: Path) -> None:
    # A directory of plain files has no cgroup.procs to open, like an old kernel without cpu.idle.
    root = make_machine(tmp_path, {**V2, "/proc/self/stat": "1 (x) S"})
    with pytest.raises(IdleGroupRefused, match="No such file"):
        make_idle_group(root)


# -- stale ones -----------------------------------------------------------------------


def test_stale_when_their_daemon_is_dead_then_removed_and_nothing_else(tmp_path: Path) -> None:
    root, namespace = HostRoot(), Path("/proc/self/ns/pid").stat().st_ino
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    prefix = f"ktaskd-idle.{namespace}"
    gone = [f"{prefix}.{dead.pid}.1", f"{prefix}.{os.getpid()}.1", f"{prefix}.{dead.pid}.1.rival"]
    kept = [
        own_name(root),
        f"ktaskd-idle.1.{dead.pid}.1",  # of another pid namespace, whose processes cannot be seen
        "ktaskd.slice",
        "ktaskd-idle.slice",
        f"{prefix}.{dead.pid}.2",  # not empty
    ]
    for name in [*gone, *kept]:
        (tmp_path / name).mkdir()
    (tmp_path / kept[-1] / "a process").touch()
    remove_stale(root, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


# -- for real -------------------------------------------------------------------------


def test_group_when_made_then_idle_next_to_all_others_and_gone_at_the_end() -> None:
    with idle_group() as group:
        if group is None:
            with pytest.raises(IdleGroupRefused) as caught:
                make_idle_group()
            assert str(caught.value)
            return
        found = cpu_levels(HostRoot(), "self")
        assert found is not None
        assert group.path.parent == next(found[2])
        assert (group.path / "cpu.idle").read_text() == "1\n"
        assert not os.get_inheritable(group.idle_fd)
        assert not os.get_inheritable(group.normal_fd)
        assert own_groups(os.getpid()) == [group.path.name]


def test_group_when_a_process_enters_then_it_is_there_and_we_are_not() -> None:
    with idle_group() as group:
        if group is None:
            return
        before = read_cpu_groups(HostRoot())
        code = (
            "import sys\n"
            "from ktaskd.host import root\nfrom ktaskd.host.cgroups import cpugroup, idlegroup\n"
            "idlegroup.enter(int(sys.argv[1]))\n"
            "print(cpugroup.read_cpu_groups(root.HostRoot()).path)\n"
        )
        words = [sys.executable, "-c", code, str(group.idle_fd)]
        done = subprocess.run(
            words, pass_fds=[group.idle_fd], stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        assert done.stdout.strip() == f"/{group.path.name}"
        assert read_cpu_groups(HostRoot()) == before


def test_group_when_its_maker_was_killed_then_the_next_one_removes_it() -> None:
    code = (
        "import os, signal\n"
        "from ktaskd.host.cgroups import idlegroup\n"
        "try:\n"
        "    print(idlegroup.make_idle_group().path, flush=True)\n"
        "except idlegroup.IdleGroupRefused:\n"
        "    pass\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60)
    with idle_group() as group:
        if group is not None:
            left = Path(done.stdout.strip())
            assert left.name.startswith(OWN_PREFIX)
            assert not left.exists()
