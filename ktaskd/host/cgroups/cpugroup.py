"""Whether a process at the lowest priority really gives way, according to its scheduling groups.

Nice and SCHED_IDLE count only inside one scheduling group. A cgroup with a weight is such a
group; in the root cgroup each session is one (autogroup). So the deciding group is the first
group below the root that a process and its rival do not share.

Source: sched(7), kernel/sched/autogroup.c, Documentation/admin-guide/cgroup-v2.rst
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.cgroups.cgroup import cpu_levels
from ktaskd.host.root import HostRoot, read_kernel_text

BY_SLICE = "idle slice"
BY_GROUP = "idle cgroup"
BY_AUTOGROUP = "autogroup"
BY_POLICY = "SCHED_IDLE"
"""How a helper gives way; SCHED_IDLE if it has no cgroup or autogroup apart from its rivals."""

OWN_PREFIX = "ktaskd-idle."
"""Prefix of the groups that a daemon makes for its helpers. They do not end with ".slice", which
is reserved for systemd."""


@dataclass(frozen=True, slots=True)
class CpuGroups:
    """The scheduling groups between a process and the rest of the machine.

    Args:
        path: its cgroup as the kernel shows it; "" = none.
        top: name of the first group with a weight below the root that we see;
            "" = the process is in that root.
        idle: whether each such group has cpu.idle, the topmost first.
        enclosed: whether the root that we see is itself a group with a weight, as in a
            container.
    """

    path: str = ""
    top: str = ""
    idle: tuple[bool, ...] = ()
    enclosed: bool = False


def read_cpu_groups(root: HostRoot, pid: str = "self") -> CpuGroups:
    """Read the groups of a process; if they cannot be read it counts as being in the root."""
    found = cpu_levels(root, pid)
    if found is None:
        return CpuGroups()
    legacy, path, levels = found
    top = next(levels)
    # In cgroup v2 a group has a weight only if its parent enables the controller.
    weighty = [level for level in levels if legacy or os.path.exists(level / "cpu.weight")]
    return CpuGroups(
        path,
        weighty[0].name if weighty else "",
        tuple(_is_idle(level) for level in weighty),
        is_enclosed(top, legacy=legacy),
    )


def describe(root: HostRoot) -> str:
    """Describe which cgroups control our CPU time, and which one is ours."""
    found = cpu_levels(root, "self")
    if found is None:
        return "no cgroup hierarchy with the cpu controller is mounted"
    legacy, path, levels = found
    return f"v{1 if legacy else 2} at {next(levels)}, we are in {path}"


def is_enclosed(top: Path, *, legacy: bool) -> bool:
    """Whether the top of a mount is not the root of its hierarchy.

    Only the real root of v1 has a release_agent, and only that of v2 no type.
    Source: kernel/cgroup/cgroup.c, CFTYPE_ONLY_ON_ROOT and CFTYPE_NOT_ON_ROOT
    """
    return not os.path.exists(top / "release_agent") if legacy else os.path.exists(top / "cgroup.type")


def gives_way_by(groups: CpuGroups, autogroup_nice: int | None, policy: str) -> str:
    """How a helper gives way to all others that we see; "" = it does not. Pure.

    Args:
        autogroup_nice: None = the kernel has no autogroups, or they are off.
        policy: as in `Applied`.
    """
    if groups.idle:
        by = BY_GROUP if groups.top.startswith(OWN_PREFIX) else BY_SLICE
        return by if groups.idle[0] else ""
    if groups.enclosed or autogroup_nice is None:
        return BY_POLICY if policy == "idle" else ""
    return BY_AUTOGROUP if autogroup_nice == 19 else ""


def why_not(groups: CpuGroups) -> str:
    """Why a helper in these groups does not give way, and what to do, in words. Pure."""
    if groups.idle:
        inner = "; cpu.idle of a group below it counts only inside" if any(groups.idle) else ""
        return (
            f"its cgroup {groups.path} has an ordinary weight at the top ({groups.top}), so the priority "
            f"of a helper counts only inside{inner}; let systemd start the pool hosts in a top-level "
            "slice with CPUWeight=idle, or start the daemon in the root cgroup"
        )
    return (
        "its session has the same weight as any other; let the daemon write /proc/self/autogroup, or let "
        "it make groups with cpu.idle below the root cgroup"
    )


def _is_idle(group: Path) -> bool:
    return (read_kernel_text(group / "cpu.idle") or "").strip() == "1"
