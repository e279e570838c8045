"""Real cgroups of a test's own, and processes in them."""

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
"""After so long a group that should be empty will not be."""


def legacy_mount(controller: str) -> Path | None:
    """Where cgroup v1 with this controller is mounted, if we may make groups there."""
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
    """A group below `parent` with these files written; at the end its processes are killed."""
    group = parent / (name or f"ktaskd-test-{uuid.uuid4().hex[:12]}")
    group.mkdir()
    try:
        for file, text in (limits or {}).items():
            (group / file).write_text(text)
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    # Whoever is in it is of the test; one that is dying keeps it busy.
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
    """A process in these groups that does nothing; its pid."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            for group in groups:
                (group / "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()


def in_groups(command: Sequence[str | Path], *groups: Path) -> list[str | Path]:
    """The command, which moves into these groups before it becomes the program."""
    move = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'
    return ["sh", "-c", move, "sh", *groups, "--", *command]
