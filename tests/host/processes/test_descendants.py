"""The processes below a process."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from ktaskd.host.processes import descendants


def fake(proc: Path, pid: int, parent: int, name: str = "a program", flags: int = 0) -> None:
    """Write a process of a kernel without lists of children."""
    (proc / str(pid) / "task" / str(pid)).mkdir(parents=True)
    fields = " ".join(["S", str(parent), "1", "1", "0", "-1", str(flags), *["0"] * 43])
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {fields}\n")


def test_children_when_the_kernel_has_no_lists_then_found_by_their_parents(tmp_path: Path) -> None:
    fake(tmp_path, 10, 1)
    fake(tmp_path, 11, 10, ") S 99 (")
    fake(tmp_path, 12, 11)
    (tmp_path / "self").mkdir()
    assert descendants.read_children(10, tmp_path) == {11}
    assert descendants.read_children(12, tmp_path) == set()
    assert descendants.read_children(13, tmp_path) == set()
    assert descendants.read_parent(11, tmp_path) == 10
    assert descendants.read_parent(13, tmp_path) == 0


def test_strays_when_some_are_known_then_all_others_and_those_below_them() -> None:
    words = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with (
        subprocess.Popen(["sleep", "1000"]) as known,
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as shell,
    ):
        assert shell.stdout is not None
        below = int(shell.stdout.readline())
        strays = descendants.find_strays({known.pid})
        assert strays[shell.pid] == os.getpid()
        assert strays[below] == shell.pid
        assert known.pid not in strays
        descendants.send(signal.SIGKILL, {shell.pid: os.getpid(), below: 1}, {known.pid})
        assert shell.wait() == -signal.SIGKILL
        os.kill(below, 0)  # it does not belong to the parent that was given
        os.kill(below, signal.SIGKILL)
        assert known.poll() is None
        known.kill()


def test_dying_when_a_process_has_ended_and_is_not_reaped_then_it_is() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        assert descendants.find_dying({process.pid}) == set()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert descendants.find_dying({process.pid}) == {process.pid}
