"""Real cgroups for one test, and processes in them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ktaskd.host.cgroups.cgroup import find_group, parse_mounts
from ktaskd.host.root import HostRoot

PATIENCE_S = 30.0
"""A group that should be empty and is not after this long will not become empty."""


def legacy_mount(controller: str) -> Path | None:
    """The mount point of cgroup v1 with this controller, if we may make groups there."""
    for mount in parse_mounts(Path("/proc/self/mountinfo").read_text(), controller):
        if mount.legacy and os.access(mount.point, os.W_OK):
            return Path(mount.point)
    return None


def own_group(controller: str) -> Path:
    """Directory of this process's cgroup."""
    group = find_group(HostRoot(), "self", controller)
    assert group is not None
    assert group.own is not None
    return group.own


@contextmanager
def cgroup(parent: Path, limits: Mapping[str, str] | None = None, name: str = "") -> Iterator[Path]:
    """Make a group below `parent` and write these files; its processes are killed at the end."""
    group = parent / (name or f"ktaskd-test-{uuid.uuid4().hex[:12]}")
    group.mkdir()
    try:
        for file, text in (limits or {}).items():
            (group / file).write_text(text)
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    # Its members belong to the test; a dying one keeps it busy.
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.01)
    group.rmdir()


@contextmanager
def sleeper(*groups: Path) -> Iterator[int]:
    """Start a process in these groups that does nothing; yields its pid."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            for group in groups:
                (group / "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()


def in_groups(command: Sequence[str | Path], *groups: Path) -> list[str | Path]:
    """The command, which moves itself into these groups before it executes the program."""
    move = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
    return ["sh", "-c", move, "sh", *groups, "--", *command]
