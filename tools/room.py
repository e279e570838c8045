"""How much memory and disk space is free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def free_disk(directory: Path) -> int:
    """Bytes that this user may still write in the directory."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def is_memory(directory: Path) -> bool:
    """Whether the directory is on a tmpfs, so that its files use memory."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if head.split()[2] == wanted:
            return tail.split()[0] in ("tmpfs", "ramfs")
    return False


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that can be allocated: by the machine, and within the limits of our cgroups.

    Source: Documentation/admin-guide/cgroup-v2.rst, memory.max
    """
    return min([psutil.virtual_memory().available, *_below_limits(root)])


def _below_limits(root: Path) -> Iterator[int]:
    """The bytes left in each limited group; its page cache counts as free."""
    for group in _groups(root):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            yield max(0, limit - used + _cache(group))


def _groups(root: Path) -> Iterator[Path]:
    """Our memory cgroup and its ancestors, of version 2 or 1."""
    top = root / "sys/fs/cgroup"
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = top / "memory" if controllers else top
        inner = base / path.lstrip("/")
        yield from (group for group in (inner, *inner.parents) if group.is_relative_to(base))


def _number(path: Path) -> int | None:
    """A file's number; None if the file is missing, or contains "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cache(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
