"""CPU time and state of another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ktaskd.host.scheduling.cputime import is_runnable, read_cpu_seconds


def test_process_when_it_burns_sleeps_or_is_gone_then_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burning:
        while read_cpu_seconds(burning.pid) < 0.01:
            assert burning.poll() is None
        os.kill(burning.pid, signal.SIGSTOP)
        while is_runnable(burning.pid):
            time.sleep(0.001)
        before = read_cpu_seconds(burning.pid)
        assert read_cpu_seconds(burning.pid) == before
        os.kill(burning.pid, signal.SIGCONT)
        while not is_runnable(burning.pid) or read_cpu_seconds(burning.pid) == before:
            time.sleep(0.001)
        burning.kill()
    assert (is_runnable(burning.pid), read_cpu_seconds(burning.pid)) == (False, 0.0)


def test_runnable_when_a_name_looks_like_a_state_then_not_misread(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a) R (b) S 1 7 7 0 -1")
    assert not is_runnable(7, tmp_path)
    (tmp_path / "7" / "stat").write_text("7 (S) R 1 7 7 0 -1")
    assert is_runnable(7, tmp_path)
