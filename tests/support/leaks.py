"""Finds what a test leaves behind: children, descriptors and threads. None may remain."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 10.0
"""Asynchronous ends, such as a peer's close, may take this long."""

PATIENCE_S = 0.2
"""After so long a cycle of objects may be what holds it."""

_GRPC_THREADS = ("event_engine", "grpc_")
"""Names of the threads that run while a channel or a server lives."""


@dataclass(frozen=True)
class Footprint:
    """The children, descriptors and threads of this process at one moment.

    Descriptors and children that existed before are no leak: fixtures that
    live longer than one test own them. Such a fixture connects its channel
    before it yields it; otherwise its first test seems to leak the socket.
    """

    children: dict[int, str]
    descriptors: dict[int, str]
    threads: frozenset[int]
    grpc_runs: bool

    @classmethod
    def take(cls) -> Footprint:
        """Take the snapshot now."""
        threads = frozenset(id(thread) for thread in _threads())
        return cls(_children(), _descriptors(), threads, _grpc_runs())

    def differences(self) -> list[str]:
        """Everything that is new since then, and files that were closed; a line each."""
        now = Footprint.take()
        lines = [f"child {pid}: {name}" for pid, name in now.children.items() if pid not in self.children]
        for fd, target in now.descriptors.items():
            if self.descriptors.get(fd) != target and not self._excused(target):
                lines.append(f"descriptor {fd}: {target}")
        for fd, target in self.descriptors.items():
            if fd not in now.descriptors and target.startswith("/"):
                lines.append(f"descriptor {fd} was closed by somebody else: {target}")
        for thread in _threads():
            if id(thread) not in self.threads:
                lines.append(f"thread {thread.name}")
        return lines

    def _excused(self, target: str) -> bool:
        """A grpc channel of a longer-lived fixture opens pollers at any time."""
        return self.grpc_runs and target.startswith("anon_inode:")


def wait_until_none(look: Callable[[], list[str]]) -> list[str]:
    """The findings of `look` that remain after GRACE_S."""
    begin_s, collected = time.monotonic(), False
    while (found := look()) and time.monotonic() < begin_s + GRACE_S:
        # To look through all objects takes longer than most tests: only for what does not go by itself.
        if not collected and time.monotonic() >= begin_s + PATIENCE_S:
            collected = gc.collect() >= 0
        else:
            time.sleep(0.02)
    return found


def marked_processes(name: str, value: str) -> list[str]:
    """Processes that were started with this in their environment; a line each.

    Also finds those whose parent is gone. Zombies have no environment.
    """
    mark = f"{name}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and mark in _read(entry / "environ").split(b"\0"):
            found.append(f"{entry.name}: {_command(int(entry.name))}")
    return found


def _threads() -> list[threading.Thread]:
    """Threads that delay the end of the process."""
    return [thread for thread in threading.enumerate() if not thread.daemon]


def _grpc_runs() -> bool:
    tasks = Path("/proc/self/task").iterdir()
    return any(_read(task / "comm").decode().startswith(_GRPC_THREADS) for task in tasks)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor that listed the directory
    return found


def _children() -> dict[int, str]:
    """Children by pid, including zombies."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        for word in _read(task / "children").split():
            found[int(word)] = _command(int(word))
    return found


def _command(pid: int) -> str:
    words = _read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode(errors="replace").strip()
    return words[:200] or "(zombie)"


def _read(path: Path) -> bytes:
    """A file of /proc; empty if the process is gone or not ours to read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
