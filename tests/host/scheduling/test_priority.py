"""The priority of other processes, on machines of files and of real children."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling import priority as priority_module
from ktaskd.host.scheduling.priority import ask_priority, read_priority, set_priority
from ktaskd.model.priority import Priority
from tests.support.machine import make_machine

PID = 4711
FIFO, OTHER, BATCH, IDLE, DEADLINE = 1, 0, 3, 5, 6


def stat_line(nice: int, policy: int, command: str = "x) S 1 (y") -> str:
    fields = ["S", *("0" for _ in range(4, 53))]
    fields[19 - 3], fields[41 - 3] = str(nice), str(policy)
    return f"{PID} ({command}) {' '.join(fields)}\n"


@pytest.fixture
def child() -> Iterator[int]:
    """A sleeping process in a session of its own, whose autogroup is changed as well."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process.pid
        process.communicate()


@pytest.mark.parametrize(
    ("nice", "policy", "wanted"),
    [
        (0, OTHER, Priority()),
        (19, OTHER, Priority("normal", 19)),
        (-5, FIFO, Priority("normal", -5)),
        (0, DEADLINE, Priority()),
        (3, BATCH, Priority("batch", 3)),
        (0, IDLE, Priority("idle", 0)),
    ],
)
def test_priority_when_read_then_nice_and_policy(
    tmp_path: Path, nice: int, policy: int, wanted: Priority
) -> None:
    root = make_machine(tmp_path, {f"/proc/{PID}/stat": stat_line(nice, policy)})
    assert read_priority(root, PID) == wanted


@pytest.mark.parametrize("text", ["", "4711 (x", "4711 (x) S 1 2 3\n", "4711 (x) " + "y " * 60])
def test_priority_when_unreadable_then_an_ordinary_one(tmp_path: Path, text: str) -> None:
    assert read_priority(make_machine(tmp_path, {f"/proc/{PID}/stat": text}), PID) == Priority()


@pytest.mark.parametrize(
    ("ours", "idle", "wanted"),
    [("/", "/low", "idle"), ("/", "/low/inner", "idle"), ("/", "", "normal"), ("/low", "/low", "normal")],
)
def test_priority_when_in_a_group_with_cpu_idle_then_idle_unless_we_are_in_it_too(
    tmp_path: Path, ours: str, idle: str, wanted: str
) -> None:
    files = {
        "/proc/self/mountinfo": "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "/proc/self/cgroup": f"0::{ours}\n",
        f"/proc/{PID}/cgroup": "0::/low/inner\n",
        f"/proc/{PID}/stat": stat_line(0, OTHER),
        "/sys/fs/cgroup/low/cpu.idle": "0\n",
        "/sys/fs/cgroup/low/inner/cpu.idle": "0\n",
    }
    if idle:
        files[f"/sys/fs/cgroup{idle}/cpu.idle"] = "1\n"
    assert read_priority(make_machine(tmp_path, files), PID).policy == wanted


def test_priority_when_set_then_the_kernel_reports_the_same(child: int) -> None:
    base = read_priority(HostRoot(), child)
    for wanted in (Priority("batch", 5, "best-effort:6"), Priority("idle", 19, "idle")):
        lower = wanted.standing_in(base)
        assert not [what for what in set_priority(child, lower) if "autogroup" not in what]
        assert read_priority(HostRoot(), child) == lower
        assert ask_priority(child, Priority()) == lower


def test_priority_when_a_process_has_threads_then_all_of_them_get_it() -> None:
    threads = "for _ in range(3): threading.Thread(target=input).start()"
    code = f"import threading\n{threads}\nprint('ready', flush=True)"
    words = ["/usr/bin/env", "python3", "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        set_priority(process.pid, Priority("normal", 19).standing_in(read_priority(HostRoot(), process.pid)))
        tids = [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]
        assert len(tids) > 2
        assert {os.getpriority(os.PRIO_PROCESS, tid) for tid in tids} == {19}
        process.kill()


def test_priority_when_the_process_is_gone_then_nothing_happens() -> None:
    gone = 2**22 + 7  # above the kernel's largest pid
    assert set_priority(gone, Priority("normal", 19)) == {}
    known = Priority("batch", 3)
    assert [ask_priority(pid, known) for pid in (gone, 0, -1)] == [known] * 3


def test_priority_when_something_is_refused_then_the_rest_is_set_and_it_is_named(
    child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(words: str, tid: int) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(priority_module, "apply_ioprio", refuse)
    failed = set_priority(child, Priority("normal", 19, "idle"))
    assert "ioprio idle" in failed
    assert os.getpriority(os.PRIO_PROCESS, child) == 19
