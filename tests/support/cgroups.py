"""Real cgroups of a test's own, and processes in them."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ktaskd.host.cgroup import find_group, parse_mounts
from ktaskd.host.root import HostRoot


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
    # Whoever is in it is of the test; one that is reaped by nobody yet keeps it busy.
    for _ in range(1000):
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            group.rmdir()
            return
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        os.sched_yield()
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
