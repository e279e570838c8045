"""CPU cgroups of our own, made where possible, and always removed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.interference.programs import Unmeasured

PERIOD_US = 100_000
_REMOVE_S = 10.0


class Group:
    """One cgroup whose CPU time can be limited, of either version."""

    def __init__(self, path: Path, *, v2: bool) -> None:
        """Take over a directory that exists."""
        self.path = path
        self.v2 = v2

    def add(self, pid: int) -> None:
        """Move a process into it."""
        (self.path / "cgroup.procs").write_text(f"{pid}\n")

    def limit(self, cpus: float | None) -> None:
        """Limit its members to the time of this many CPUs; None = no limit."""
        quota = -1 if cpus is None else int(cpus * PERIOD_US)
        if self.v2:
            (self.path / "cpu.max").write_text(f"{'max' if quota < 0 else quota} {PERIOD_US}\n")
            return
        (self.path / "cpu.cfs_period_us").write_text(f"{PERIOD_US}\n")
        (self.path / "cpu.cfs_quota_us").write_text(f"{quota}\n")

    @contextmanager
    def child(self, name: str) -> Iterator[Group]:
        """A group below this one, removed at the end."""
        if self.v2:
            (self.path / "cgroup.subtree_control").write_text("+cpu\n")
        with _made(self.path / name, v2=self.v2) as group:
            yield group


@contextmanager
def group(name: str) -> Iterator[Group]:
    """A new group below the root, or with v2 below our own; removed at the end.

    Its processes must have ended by then.

    Raises:
        Unmeasured: no group can be made here.
    """
    top, v2 = _place()
    path = top / f"ktaskd-bench-{os.getpid()}-{name}"
    try:
        made = _made(path, v2=v2)
        with made as found:
            yield found
    except PermissionError as error:
        raise Unmeasured(f"cgroup: {error}") from error


def _place() -> tuple[Path, bool]:
    for controllers in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
        v1 = Path("/sys/fs/cgroup", controllers)
        if (v1 / "cpu.cfs_quota_us").exists() or (v1 / "cpu.shares").exists():
            return v1, False
    v2 = Path("/sys/fs/cgroup")
    controllers_of_v2 = v2 / "cgroup.subtree_control"
    if controllers_of_v2.exists() and "cpu" in controllers_of_v2.read_text().split():
        return v2, True
    raise Unmeasured("cgroup: no cpu controller, of version 1 or 2, is there to make a group in")


@contextmanager
def _made(path: Path, *, v2: bool) -> Iterator[Group]:
    path.mkdir()
    try:
        yield Group(path, v2=v2)
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    """A process that has just ended may still count for a moment."""
    deadline = time.monotonic() + _REMOVE_S
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
