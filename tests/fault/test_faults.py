"""The fault points themselves: off by default, each fault once, all points in use."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.host import faults
from tests.arch.tree import REPOSITORY
from tests.fault.armed_faults import ArmedFaults, armed_faults

HIT = "from ktaskd.host import faults; print(faults.ON, faults.hit('worker.at_start', 'f'))"


def hit(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIT],
        check=False, capture_output=True, text=True, env={**os.environ, **environ},
    )  # fmt: skip


@pytest.mark.parametrize("value", ["", "/nonexistent"])
def test_fault_when_none_is_wanted_then_nothing(value: str) -> None:
    done = hit({faults.VARIABLE: value})
    assert (done.returncode, done.stdout) == (0, f"{bool(value)} False\n")


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("kill", -signal.SIGKILL),
        ("segv", -signal.SIGSEGV),
        ("exit0", 0),
        ("raise", 1),
        ("pass", 0),
        ("half", 0),
    ],
)
def test_fault_when_armed_then_once_and_the_pid_is_told(action: str, status: int) -> None:
    with armed_faults() as armed:
        other = armed.arm("worker.in_undo", "kill")
        others = armed.arm("worker.at_start", "kill", "g")
        name = armed.arm("worker.at_start", action, "f")
        done = hit(armed.environ)
        assert done.returncode == status
        assert list(armed.fired()) == [name]
        assert armed.waiting() == [other, others]
        assert hit(armed.environ).returncode == 0


def test_fault_when_many_processes_pass_then_each_is_taken_by_one(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()  # no fault, and in nobody's way
    armed = ArmedFaults(tmp_path)
    names = armed.arm_all("worker.at_start:pass*4 worker.at_start:exit0*3")
    code = f"{HIT}\nfor _ in range(20): faults.hit('worker.at_start')\nprint('lived')"
    environ = {**os.environ, **armed.environ}
    crowd = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environ)
        for _ in range(5)
    ]
    lived = ["lived" in process.communicate()[0] for process in crowd]
    assert lived.count(False) == 3
    assert sorted(armed.fired()) == names
    assert {pid for name, pid in armed.fired().items() if "exit0" in name} == {
        process.pid for process, alive in zip(crowd, lived, strict=True) if not alive
    }


def test_points_when_looked_for_then_each_is_in_the_code() -> None:
    text = "".join(
        path.read_text()
        for room in ("worker", "pool")
        for path in (REPOSITORY / "ktaskd" / room).glob("*.py")
    )
    steps = {f"worker.in_{step}" for step in ("prepare", "combine", "finish", "undo", "restore")}
    assert 'f"worker.in_' in text
    named = set(re.findall(r'"((?:worker|host)\.[a-z_0-9]+)"', text))
    assert faults.POINTS - steps <= named


def test_daemon_when_its_environment_has_no_faults_then_off() -> None:
    assert faults.VARIABLE not in os.environ
    assert not faults.ON
