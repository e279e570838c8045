"""Cgroups of a test: real ones if this machine lets us make any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ktaskd.host.cgroups.cgroup import cpu_levels
from ktaskd.host.cgroups.cpugroup import OWN_PREFIX
from ktaskd.host.cgroups.idlegroup import IdleGroup, IdleGroupRefused, make_idle_group
from ktaskd.host.root import HostRoot


@contextmanager
def idle_group() -> Iterator[IdleGroup | None]:
    """A group with cpu.idle like a daemon's; None if none may be made."""
    try:
        group = make_idle_group()
    except IdleGroupRefused:
        yield None
        return
    try:
        yield group
    finally:
        group.close()
        assert not group.path.exists()


def own_groups(pid: int) -> list[str]:
    """Names of the groups that the process with this pid has made."""
    found = cpu_levels(HostRoot(), "self")
    top = next(found[2]) if found else Path("/nonexistent")
    names = [path.name for path in top.iterdir()] if os.access(top, os.R_OK) else []
    return [name for name in names if name.startswith(OWN_PREFIX) and name.split(".")[2] == str(pid)]
