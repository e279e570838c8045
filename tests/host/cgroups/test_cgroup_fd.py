"""Descriptors of cgroup.procs: what counts as one, and that it is taken from standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.host.cgroups import cgroup_fd
from tests.support.cgroups import cgroup, legacy_mount, sleeper
from tests.support.units import start_unit
from tests.support.users import NOBODY, OtherUsers

TAKES = """
import os
from ktaskd.host.cgroups import cgroup_fd
own = cgroup_fd.take_stdout()
print("this goes nowhere")
again = cgroup_fd.take_stdout()
os.write(2, repr([os.readlink(f"/proc/self/fd/{fd}") for fd in (own, 1) if fd >= 0] + [again]).encode())
if os.fork() == 0:
    os.execv("/bin/sh", ["sh", "-c", "ls -l /proc/self/fd >&2"])
os.wait()
"""


@pytest.mark.parametrize("name", ["cgroup.procs", "other"])
def test_file_when_on_no_cgroup_file_system_then_it_is_none(tmp_path: Path, name: str) -> None:
    fd = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT)
    try:
        assert not cgroup_fd.is_cgroup_procs(fd)
    finally:
        os.close(fd)
    assert not cgroup_fd.is_cgroup_procs(fd), "it is closed"


def test_stdout_when_it_is_no_cgroup_procs_then_left_alone() -> None:
    code = "from ktaskd.host.cgroups import cgroup_fd\nprint(cgroup_fd.take_stdout())\n"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"-1\n"


def test_cgroup_fd_when_of_a_group_then_only_if_it_can_be_written() -> None:
    mount = legacy_mount("cpu")
    if mount is None:
        return
    with cgroup(mount) as group, cgroup(mount) as other:
        fds = [
            os.open(group / "cgroup.procs", os.O_WRONLY),
            os.open(group / "cgroup.procs", os.O_RDONLY),
            os.open(group / "cgroup.procs", os.O_PATH),
            os.open(group / "tasks", os.O_WRONLY),
            os.open(group / "cgroup.procs", os.O_RDWR),
            os.open(other / "cgroup.procs", os.O_WRONLY),
        ]
        try:
            assert [cgroup_fd.is_cgroup_procs(fd) for fd in fds] == [True, False, False, False, True, True]
            assert cgroup_fd.same(fds[0], fds[4])
            assert not cgroup_fd.same(fds[0], fds[5])
        finally:
            for fd in fds:
                os.close(fd)


def test_stdout_when_it_is_a_door_then_taken_and_nobody_inherits_it() -> None:
    mount = legacy_mount("cpu")
    if mount is None:
        return
    with cgroup(mount) as group:
        process = start_unit(
            [sys.executable, "-c", TAKES], groups=[group], cgroup_fd=True, stderr=subprocess.PIPE
        )
        _, errors = process.communicate()
        mine, _, listed = errors.decode().partition("]")
        assert mine == f"['{group}/cgroup.procs', '/dev/null', -1"
        assert "cgroup.procs" not in listed


@pytest.mark.slow
@pytest.mark.other_uid
def test_door_when_root_opened_it_then_a_user_without_rights_moves_through_it(run_as: OtherUsers) -> None:
    mount = legacy_mount("cpu")
    if mount is None:
        return
    with cgroup(mount) as group, sleeper() as pid:
        fd = os.open(group / "cgroup.procs", os.O_WRONLY)
        try:
            code = f"import os; print(os.write({fd}, b'{pid}'))"
            done = run_as(NOBODY, code, pass_fds=[fd])
        finally:
            os.close(fd)
        assert done.stdout == f"{len(str(pid))}\n", done.stderr
        assert (group / "cgroup.procs").read_text().split() == [str(pid)]
