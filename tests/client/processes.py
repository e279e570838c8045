"""Interpreters and daemons that tests start, and their processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

WAIT_S = 30.0


def program(directory: Path, name: str, text: str) -> str:
    """An executable script."""
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def pids(starts: Path) -> list[int]:
    return [int(line.split()[0]) for line in starts.read_text().splitlines()]


def end(pid: int) -> None:
    """End a process that is not our child, and wait until it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    deadline = time.monotonic() + WAIT_S
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.close(fd)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
