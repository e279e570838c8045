"""Processes that are distinguished from later ones with the same pid."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ktaskd.host.caller import describe
from ktaskd.host.processes.incarnation import Incarnation, has_ended, read_start_ticks
from ktaskd.host.root import HostRoot
from ktaskd.model.identity import Identity
from ktaskd.model.topology import Node, Topology
from tests.support.machine import make_machine

ROOT = HostRoot()


@pytest.mark.parametrize("with_pidfd", [True, False])
def test_process_when_it_ends_then_not_alive_even_before_it_is_waited_for(with_pidfd: bool) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        ticks = 0 if with_pidfd else read_start_ticks(ROOT, process.pid)
        held = Incarnation(ROOT, process.pid, pidfd if with_pidfd else -1, ticks)
        assert held.alive
        assert not has_ended(pidfd)
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not held.alive
        assert has_ended(pidfd)
        os.close(pidfd)
        process.wait()
        assert not held.alive
        held.close()


def stat(start: int, state: str = "S") -> str:
    fields = [state, *("0" for _ in range(18)), str(start), *("0" for _ in range(30))]
    return f"77 (a ) S b) {' '.join(fields)}\n"


def test_process_when_its_pid_is_used_again_then_not_alive(tmp_path: Path) -> None:
    root = make_machine(tmp_path, {"/proc/77/stat": stat(1000)})
    held = Incarnation(root, 77, start_ticks=read_start_ticks(root, 77))
    assert held.alive
    make_machine(tmp_path, {"/proc/77/stat": stat(1001)})
    assert not held.alive


@pytest.mark.parametrize("text", ["", "garbage", "77 (x) S 1", stat(5, "Z"), stat(5, "X")])
def test_process_when_nothing_is_known_then_never_believed(tmp_path: Path, text: str) -> None:
    root = make_machine(tmp_path, {"/proc/77/stat": text})
    assert read_start_ticks(root, 77) == 0
    assert not Incarnation(root, 77, start_ticks=0).alive
    assert not Incarnation(root, 78, start_ticks=5).alive


def test_caller_when_it_lives_then_described_and_when_it_ended_then_unknown() -> None:
    topology = Topology((Node(0, frozenset(os.sched_getaffinity(0))),))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        who = Identity(1, 2, process.pid, pidfd)
        known = describe(ROOT, who, topology)
        assert known.memory_known
        assert known.cpus == os.sched_getaffinity(0)
        assert known.start_ticks == read_start_ticks(ROOT, process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        for one in (who, Identity(1, 2, process.pid)):
            gone = describe(ROOT, one, topology)
            assert (gone.cpus, gone.cpu_quota, gone.memory, gone.memory_known) == (
                frozenset(),
                0.0,
                None,
                False,
            )
        os.close(pidfd)
