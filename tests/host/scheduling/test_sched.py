"""Priorities, read back from the kernel in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.host.scheduling import sched
from tests.host.ownprocess import REPOSITORY, in_own_process


def test_lowest_when_applied_then_read_back() -> None:
    code = (
        "sched.apply_nice(19)\n"
        "sched.apply_ioprio_idle()\n"
        "sched.apply_policy(os.SCHED_IDLE)\n"
        "print(sched.read_policy(), sched.read_nice(), sched.read_ioprio())\n"
        "print(os.sched_getscheduler(0) == os.SCHED_IDLE)\n"
    )
    assert in_own_process(code) == ["idle 19 idle", "True"]


def test_batch_when_applied_then_read_back() -> None:
    assert in_own_process("sched.apply_policy(os.SCHED_BATCH)\nprint(sched.read_policy())\n") == ["batch"]


def test_affinity_when_applied_then_read_back() -> None:
    cpu = max(os.sched_getaffinity(0))
    code = f"sched.apply_affinity(frozenset({{{cpu}}}))\nprint(sched.read_affinity())\n"
    assert in_own_process(code) == [f"frozenset({{{cpu}}})"]


def test_autogroup_when_set_then_read_back_and_only_in_this_session() -> None:
    if not sched.has_autogroups():
        pytest.skip("autogroup: the kernel has none")
    before = sched.read_autogroup_nice()
    code = "sched.set_own_autogroup_nice(19)\nprint(sched.read_autogroup_nice())\n"
    assert in_own_process(code) == ["19"]
    assert sched.read_autogroup_nice() == before


def test_autogroup_when_many_set_theirs_then_each_gets_it() -> None:
    """The kernel takes one change in 0.1 s from unprivileged processes."""
    if not sched.has_autogroups():
        pytest.skip("autogroup: the kernel has none")
    code = (
        "from ktaskd.host.scheduling import sched\n"
        "sched.set_own_autogroup_nice(19)\n"
        "print(sched.read_autogroup_nice())\n"
    )
    many = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True
        )
        for _ in range(5)
    ]
    assert [process.communicate()[0] for process in many] == [b"19\n"] * 5


def test_autogroup_when_the_kernel_has_none_then_none(tmp_path: Path) -> None:
    assert sched.read_autogroup_nice(tmp_path) is None
    (tmp_path / "self").mkdir()
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "self/autogroup").write_text("/autogroup-3 nice 7\n")
    (tmp_path / "sys/kernel/sched_autogroup_enabled").write_text("1\n")
    assert sched.read_autogroup_nice(tmp_path) == 7
    (tmp_path / "sys/kernel/sched_autogroup_enabled").write_text("0\n")
    assert sched.read_autogroup_nice(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "nice"),
    [("/autogroup-9 nice 0\n", 0), ("/autogroup-12 nice -20\n", -20), ("", None), ("/ nice x", None)],
)
def test_parse_autogroup(text: str, nice: int | None) -> None:
    assert sched.parse_autogroup(text) == nice


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "none"),
        (3 << 13, "idle"),
        (3 << 13 | 7, "idle"),
        (2 << 13 | 4, "best-effort:4"),
        (1 << 13, "realtime:0"),
    ],
)
def test_parse_ioprio(value: int, words: str) -> None:
    assert sched.parse_ioprio(value) == words
