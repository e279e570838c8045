"""Find the cgroups of a process, and how much CPU time they allow it.

The tightest limit of all ancestors counts, since cgroup v2 accepts a child with a larger limit
than its parent's, and v1 accepts an unlimited child.

Source: cgroups(7), proc_pid_mountinfo(5), Documentation/admin-guide/cgroup-v2.rst,
Documentation/scheduler/sched-bwc.rst
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.model.observation import OwnLimit

UNLIMITED = 0.0
"""Means "no limit", as in `Identity.cpu_quota`."""

LEVELS_MAX = 64
"""Most levels below the top that are read. A process that can make cgroups can nest thousands,
and each level costs us a read. If it does, only its own deeper limits are missed."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a cgroup file system that may have limits of one controller.

    Args:
        root: the cgroup that the mount shows at its top, as a path below the
            root of our cgroup namespace.
        point: its mount point, on the machine that is read.
        legacy: whether it is cgroup v1, with the requested controller.
    """

    root: str
    point: str
    legacy: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The place of a process in the hierarchy of one controller.

    Args:
        legacy: whether it is cgroup v1.
        levels: directories from the top of the mount down to the process's own
            cgroup, at most LEVELS_MAX below the top.
        own: directory of its own cgroup; None if no mount of ours shows it.
    """

    legacy: bool
    levels: tuple[Path, ...]
    own: Path | None


def read_cpu_quota(root: HostRoot, pid: int | str) -> float:
    """CPU time that the cgroups of `pid` allow it, in CPUs; 0.0 = no known limit."""
    group = find_group(root, pid, "cpu")
    if group is None:
        return UNLIMITED
    return _tightest(group)


def _tightest(group: Group) -> float:
    read = _read_legacy_limit if group.legacy else _read_unified_limit
    return min((limit for level in group.levels if (limit := read(level)) is not None), default=UNLIMITED)


def find_group(root: HostRoot, pid: int | str, controller: str) -> Group | None:
    """Find the cgroup of `pid` for one controller; None if that cannot be known.

    Uses our own mounts and not those of `pid`: the kernel shows the path in /proc/PID/cgroup
    relative to the reader's cgroup namespace, and a container's mount points are not our paths.

    Args:
        pid: a number or "self".
    """
    return _find(root, _read_mounts(root, controller), _read_membership(root, pid), controller)


def _find(root: HostRoot, mounts: Sequence[Mount], membership: str, controller: str) -> Group | None:
    paths = parse_memberships(membership, controller)
    # A controller belongs to one hierarchy: if v1 has it, v2 cannot limit it.
    for legacy in (True, False):
        candidates = [mount for mount in mounts if mount.legacy is legacy]
        if candidates and legacy in paths:
            return _locate(root, candidates, paths[legacy])
    return None


def cpu_levels(root: HostRoot, pid: int | str) -> tuple[bool, str, Iterator[Path]] | None:
    """Find the cgroups that control the CPU of a process; None if there are none.

    Args:
        pid: a number or "self".
    Returns:
        Whether it is cgroup v1; the path as the kernel shows it; and the directories from
        the top of the mount down to that of the process.
    """
    membership = _read_membership(root, pid)
    group = _find(root, _read_mounts(root, "cpu"), membership, "cpu")
    if group is None:
        return None
    return group.legacy, parse_memberships(membership)[group.legacy], iter(group.levels)


def read_own_limit(root: HostRoot, pids: Iterable[int | str] = ("self",)) -> OwnLimit:
    """Read the tightest limit of these processes, and how often their groups were throttled.

    Source: nr_throttled of cpu.stat, which cgroup v1 and v2 have alike
    """
    limits: list[float] = []
    groups: set[Path] = set()
    mounts = _read_mounts(root)
    for membership in {_read_membership(root, pid) for pid in pids}:
        group = _find(root, mounts, membership, "cpu")
        if group is not None:
            limits.append(_tightest(group))
            groups.update(group.levels)
    return OwnLimit(min(filter(None, limits), default=UNLIMITED), sum(map(read_throttled, groups)))


def read_unified_group(root: HostRoot, pid: int | str) -> str:
    """Read the cgroup v2 path of `pid`, such as "/user.slice"; "" if it has none."""
    return parse_memberships(_read_membership(root, pid)).get(False, "")


def find_unified_mount(root: HostRoot) -> Path | None:
    """Find the mount of the whole cgroup v2 hierarchy; None if there is none."""
    for mount in _read_mounts(root):
        if not mount.legacy and mount.root == "/":
            return root.at(mount.point)
    return None


def read_throttled(group: Path) -> int:
    """Read the number of periods in which the limit of this group throttled it."""
    for line in (read_kernel_text(group / "cpu.stat") or "").split("\n"):
        name, _, value = line.partition(" ")
        if name == "nr_throttled" and value.isascii() and value.isdigit() and len(value) <= 20:
            return int(value)
    return 0


def _read_mounts(root: HostRoot, controller: str = "cpu") -> tuple[Mount, ...]:
    return parse_mounts(root.process_text("self", "mountinfo") or "", controller)


def _read_membership(root: HostRoot, pid: int | str) -> str:
    return root.process_text(pid, "cgroup") or ""


@lru_cache(maxsize=8)  # it is read often and hardly ever changes
def parse_mounts(mountinfo: str, controller: str = "cpu") -> tuple[Mount, ...]:
    """The mounts of cgroup v2, and those of v1 with this controller."""
    mounts = []
    # Not splitlines, which also cuts at characters that a user can put in a name.
    for line in mountinfo.split("\n"):
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(kind) < 3:
            continue
        legacy = kind[0] == "cgroup" and controller in kind[2].split(",")
        if legacy or kind[0] == "cgroup2":
            mounts.append(Mount(_unescape(fields[3]), _unescape(fields[4]), legacy))
    return tuple(mounts)


@lru_cache(maxsize=64)
def parse_memberships(cgroup: str, controller: str = "cpu") -> Mapping[bool, str]:
    """Path of the cgroup that a controller uses: key True = in v1, False = in v2."""
    paths = {}
    for line in cgroup.split("\n"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            paths[False] = path
        elif controller in controllers.split(","):
            paths[True] = path
    return paths


def _locate(root: HostRoot, mounts: Sequence[Mount], path: str) -> Group:
    """The directories of a cgroup.

    A cgroup that is outside our namespace or below another root is shown by no mount. Then
    only the top is known.
    """
    below = [(mount, inner) for mount in mounts if (inner := _inner(path, mount.root)) is not None]
    # The mount with the highest root shows the most ancestors.
    mount, inner = min(below, key=lambda pair: len(pair[0].root)) if below else (mounts[0], "")
    level = root.at(mount.point)
    levels = [level]
    for name in inner.split("/", LEVELS_MAX)[:LEVELS_MAX] if inner else ():
        level /= name
        levels.append(level)
    return Group(mount.legacy, tuple(levels), root.at(mount.point) / inner if below else None)


def _inner(path: str, mount_root: str) -> str | None:
    """`path` relative to the root of a mount; None if it is not below that root."""
    if ".." in path.split("/"):
        return None
    prefix = mount_root.rstrip("/") + "/"
    return path.rstrip("/")[len(prefix) :] if (path.rstrip("/") + "/").startswith(prefix) else None


def _read_unified_limit(group: Path) -> float | None:
    """Read cpu.max: "$MAX $PERIOD" in us, or "max $PERIOD"; the root group has no such file."""
    words = (read_kernel_text(group / "cpu.max") or "").split()
    return _ratio(*words) if len(words) == 2 else None


def _read_legacy_limit(group: Path) -> float | None:
    """Read cpu.cfs_quota_us, which is -1 if there is no limit."""
    quota = read_kernel_text(group / "cpu.cfs_quota_us") or ""
    return _ratio(quota, read_kernel_text(group / "cpu.cfs_period_us") or "")


def _ratio(quota: str, period: str) -> float | None:
    """Quota divided by period; None for "max", -1, and text that is not a limit."""
    try:
        quota_us, period_us = int(quota), int(period)
        return quota_us / period_us if quota_us > 0 and period_us > 0 else None
    except (ValueError, OverflowError):
        return None


def _unescape(text: str) -> str:
    """Replace the octal escapes of mountinfo: blank, tab, newline and backslash."""
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
