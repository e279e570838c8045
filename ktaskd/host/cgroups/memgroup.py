"""Which memory cgroup a process is in, what limits it, and how to get into it.

Memory is charged to the cgroup of whoever touches it first, for as long as it
exists. What a worker allocates for a client counts against the client's limit
only if the worker is in the client's group then, or at least below the group
that has the limit.

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
"""v1 writes "no limit" as LONG_MAX rounded down to pages, whose size differs between
machines. No machine has as much as this. Source: PAGE_COUNTER_MAX in linux/page_counter.h"""

_UNIFIED_FILES = ("memory.max", "memory.high")
_LEGACY_FILES = ("memory.limit_in_bytes",)


def read_memory_limit(root: HostRoot, pid: int) -> MemoryLimit | None:
    """The tightest finite limit of `pid` and its group's ancestors; None = none known.

    Of equal limits the upper one counts: what is below it can never have as much.
    Of a process whose group none of our mounts shows, only the limit at their top
    is known, which holds for us too.

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
    """Directory of the memory cgroup of `pid` or "self".

    As far down as it can be seen: the top of the mount for a group outside of
    it. "" where there is none, or the process is gone.
    """
    group = find_group(root, pid, CONTROLLER)
    if group is None:
        return ""
    return str(group.own or group.levels[0])


def counts_against(limit: MemoryLimit, groups: Iterable[str]) -> bool:
    """Whether all that processes in these groups allocate counts against the limit. Pure.

    A group that is not known ("") does not; and where there are no groups, there
    is nothing to rely on.
    """
    top = limit.limiting.rstrip("/") + "/"
    groups = list(groups)
    return bool(groups) and all((group + "/").startswith(top) for group in groups)


def why_not_enter(group: str, movers: Iterable[str]) -> str:
    """What keeps processes of ours out of a group, in words; "" = nothing that can be foreseen.

    cgroup v1 wants the right to write cgroup.procs, v2 also that of the nearest
    common ancestor of where a process comes from and where it goes to.

    Args:
        movers: directories of the groups that processes would come from.
    """
    if not group:
        return "it is outside of what is mounted here"
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
    """Move the calling process into a group: from now on it pays what this one allocates.

    Raises:
        OSError: it is not in it.
    """
    (Path(group) / "cgroup.procs").write_bytes(b"0")
    got = read_memory_group(HostRoot(), "self")
    if got != group:
        raise OSError(f"memory cgroup: got {got or 'none'}, wanted {group}")


def _limit_of(level: Path, group: Group) -> int | None:
    names = _LEGACY_FILES if group.legacy else _UNIFIED_FILES
    limits = (_parse_limit(read_kernel_text(level / name) or "") for name in names)
    return min((limit for limit in limits if limit is not None), default=None)


def _parse_limit(text: str) -> int | None:
    """Bytes; None for "max", for what v1 calls no limit, and for what is no number.

    0 is a limit: a group that may have nothing.
    """
    word = text.strip()
    if not (word.isascii() and word.isdecimal() and len(word) < 20):
        return None
    limit = int(word)
    return limit if limit < LEGACY_UNLIMITED else None
