"""The fixtures find what is left behind, and other users are what they seem.

Guards: S10
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import MARK
from tests.support import leaks
from tests.support.leaks import Footprint, marked_processes
from tests.support.users import NOBODY, OtherUsers


def test_footprint_when_nothing_was_left_then_no_difference() -> None:
    before = Footprint.take()
    with socket.socket(socket.AF_UNIX):
        pass
    subprocess.run(["true"], check=True)
    assert before.differences() == []


def test_footprint_when_a_descriptor_is_left_then_it_is_named() -> None:
    before = Footprint.take()
    with socket.socket(socket.AF_UNIX) as left:
        assert [line for line in before.differences() if f"descriptor {left.fileno()}: socket:" in line]


def test_footprint_when_a_file_was_closed_by_another_then_it_is_named(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    before = Footprint.take()
    os.close(fd)
    assert before.differences() == [f"descriptor {fd} was closed by somebody else: {tmp_path}"]


def test_footprint_when_a_child_was_not_waited_for_then_it_is_named() -> None:
    before = Footprint.take()
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    found = before.differences()
    child.wait()
    assert found == [f"child {child.pid}: (zombie)"]


def test_footprint_when_a_thread_runs_then_it_is_named() -> None:
    before = Footprint.take()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-over")
    thread.start()
    found = before.differences()
    stop.set()
    thread.join()
    assert found == ["thread left-over"]


def test_marked_processes_when_the_parent_is_gone_then_found() -> None:
    # The shell has ended when it is found; cat ends with our end of its pipe.
    with subprocess.Popen(
        ["sh", "-c", "exec 3<&0; cat <&3 >&2 & echo $!"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        os.waitid(os.P_PID, shell.pid, os.WEXITED | os.WNOWAIT)
        found = marked_processes(MARK, os.environ[MARK])
        assert [line for line in found if line.startswith(f"{pid}: ")]


def test_wait_until_none_when_it_never_vanishes_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE_S", 0.0)
    assert leaks.wait_until_none(lambda: ["it"]) == ["it"]


@pytest.mark.other_uid
def test_run_as_when_code_then_all_is_importable_and_the_user_is_another(run_as: OtherUsers) -> None:
    code = "import os, sys, grpc, ktask, ktaskd, ktask.v1.jobs_pb2; print(os.getresuid(), os.getgroups())"
    done = run_as(NOBODY, code)
    assert (done.stdout, done.stderr) == (f"{(NOBODY,) * 3} []\n", "")


@pytest.mark.other_uid
def test_run_as_when_a_private_file_then_refused(run_as: OtherUsers, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert "Permission denied" in run_as(NOBODY, ["cat", secret]).stderr


@pytest.mark.other_uid
@pytest.mark.parametrize("name", ["grpcurl", "buf"])
def test_run_as_when_a_program_then_it_runs(run_as: OtherUsers, name: str) -> None:
    done = run_as(NOBODY, [run_as.program(name), "--version"])
    assert done.returncode == 0, done.stderr


@pytest.mark.other_uid
def test_reachable_dir_when_another_user_then_may_enter(run_as: OtherUsers, reachable_dir: Path) -> None:
    (reachable_dir / "name").write_text("seen")
    assert run_as(1234, ["cat", reachable_dir / "name"]).stdout == "seen"


@pytest.mark.other_uid
def test_other_python_when_asked_then_same_version(other_python: Path, run_as: OtherUsers) -> None:
    words = [str(other_python), "-I", "-c", "import sys, ktask; print(sys.version_info[:2])"]
    assert run_as(NOBODY, words).stdout == f"{sys.version_info[:2]}\n"
