"""The memory cgroup of a process, its limit, and how to enter it.

Memory is charged to the cgroup of the process that touches it first, for as long as the memory
exists. Memory that a worker allocates for a client counts against the client's limit only if
the worker is in the client's group at that moment, or below the group that has the limit.

Source: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ktaskd.host.cgroups.cgroup import Group, find_group
from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.model.memory import MemoryLimit

CONTROLLER = "memory"

LEGACY_UNLIMITED = 1 << 62
"""v1 writes "no limit" as LONG_MAX rounded down to pages, whose size differs between machines.
No machine has this much memory. Source: PAGE_COUNTER_MAX in linux/page_counter.h"""

_UNIFIED_FILES = ("memory.max", "memory.high")
_LEGACY_FILES = ("memory.limit_in_bytes",)


def read_memory_limit(root: HostRoot, pid: int) -> MemoryLimit | None:
    """Read the tightest finite limit of the group of `pid` and its ancestors; None = none known.

    Of equal limits the upper one counts, since groups below it can never reach theirs.
    If no mount of ours shows the group, only the limit at the top is known, which holds for
    us too.

    Raises:
        ProcessLookupError: the process is gone or hidden from us.
    """
    if read_kernel_text(root.proc / str(pid) / "cgroup") is None:
        raise ProcessLookupError(f"process {pid}: its cgroups cannot be read")
    group = find_group(root, pid, CONTROLLER)
    if group is None:
        return None
    limits = ((limit, level) for level in group.levels if (limit := _limit_of(level, group)) is not None)
    tightest = min(limits, key=lambda pair: pair[0], default=None)
    if tightest is None:
        return None
    return MemoryLimit(tightest[0], str(tightest[1]), str(group.own or ""))


def read_memory_group(root: HostRoot, pid: int | str) -> str:
    """Find the directory of the memory cgroup of `pid` or "self".

    For a group that our mount does not show this is the top of the mount. "" if there is no
    such group, or the process is gone.
    """
    group = find_group(root, pid, CONTROLLER)
    if group is None:
        return ""
    return str(group.own or group.levels[0])


def counts_against(limit: MemoryLimit, groups: Iterable[str]) -> bool:
    """Whether everything that processes in these groups allocate counts against the limit. Pure.

    False if there are no groups, or if one is not known ("").
    """
    top = limit.limiting.rstrip("/") + "/"
    groups = list(groups)
    return bool(groups) and all((group + "/").startswith(top) for group in groups)


def why_not_enter(group: str, movers: Iterable[str]) -> str:
    """Why our processes cannot enter a group, in words; "" = no reason is known.

    cgroup v1 requires the right to write the group's cgroup.procs. v2 also requires that right
    for the nearest common ancestor of the old and the new group.

    Args:
        movers: directories of the groups that processes would leave.
    """
    if not group:
        return "it is not below any cgroup mount here"
    directories = [Path(group)]
    if os.path.exists(Path(group) / "cgroup.controllers"):
        directories += [Path(os.path.commonpath([group, mover])) for mover in movers if mover]
    for directory in dict.fromkeys(directories):
        path = directory / "cgroup.procs"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        except OSError as error:
            return f"{path}: {error.strerror}"
    return ""


def enter(group: str) -> None:
    """Move the calling process into a group, which from now on is charged for its memory.

    Raises:
        OSError: the process is not in that group afterwards.
    """
    (Path(group) / "cgroup.procs").write_bytes(b"0")
    got = read_memory_group(HostRoot(), "self")
    if got != group:
        raise OSError(f"memory cgroup: this process could not enter {group} and is in {got or 'none'}")


def _limit_of(level: Path, group: Group) -> int | None:
    names = _LEGACY_FILES if group.legacy else _UNIFIED_FILES
    limits = (_parse_limit(read_kernel_text(level / name) or "") for name in names)
    return min((limit for limit in limits if limit is not None), default=None)


def _parse_limit(text: str) -> int | None:
    """A limit in bytes; None for "max", for v1's "no limit", and for text that is not a number.

    0 is a limit: such a group may have no memory at all.
    """
    word = text.strip()
    if not (word.isascii() and word.isdecimal() and len(word) < 20):
        return None
    limit = int(word)
    return limit if limit < LEGACY_UNLIMITED else None
