"""Whether a process at the lowest priority really gives way, as its CPU groups have it.

Nice and SCHED_IDLE count only inside one scheduling group. A cgroup with a
weight is one; in the root cgroup each session is one (autogroup). So what
counts is the first group below the root that a process and its rival do not
share.

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
"""Where neither cgroups nor autogroups stand between it and its rivals."""

OWN_PREFIX = "ktaskd-idle."
"""How the groups begin that a daemon makes for its helpers. Not with ".slice" at
the end, which would be systemd's."""


@dataclass(frozen=True, slots=True)
class CpuPlace:
    """The groups between a process and the rest of the machine.

    Args:
        path: its cgroup as the kernel shows it; "" = none.
        top: name of the first group with a weight below the root that we see;
            "" = none, it is in that root.
        idle: whether each such group has cpu.idle, the topmost first.
        enclosed: the root that we see is a group itself, as in a container: it
            has a weight against what is outside.
    """

    path: str = ""
    top: str = ""
    idle: tuple[bool, ...] = ()
    enclosed: bool = False


def read_cpu_place(root: HostRoot, pid: str = "self") -> CpuPlace:
    """Where a process stands; what cannot be read counts as the root."""
    found = cpu_levels(root, pid)
    if found is None:
        return CpuPlace()
    legacy, path, levels = found
    top = next(levels)
    # In cgroup v2 a group has no weight where its parent lets it have none.
    weighty = [level for level in levels if legacy or os.path.exists(level / "cpu.weight")]
    return CpuPlace(
        path,
        weighty[0].name if weighty else "",
        tuple(_is_idle(level) for level in weighty),
        is_enclosed(top, legacy=legacy),
    )


def describe(root: HostRoot) -> str:
    """Which cgroups decide about our CPU, and where we are in them, in words."""
    found = cpu_levels(root, "self")
    if found is None:
        return "none is mounted that decides about the CPU"
    legacy, path, levels = found
    return f"v{1 if legacy else 2} at {next(levels)}, we are in {path}"


def is_enclosed(top: Path, *, legacy: bool) -> bool:
    """Whether the top of a mount is not the root of its hierarchy.

    Only the real root of v1 has a release_agent, and only that of v2 no type.
    Source: kernel/cgroup/cgroup.c, CFTYPE_ONLY_ON_ROOT and CFTYPE_NOT_ON_ROOT
    """
    return not os.path.exists(top / "release_agent") if legacy else os.path.exists(top / "cgroup.type")


def gives_way_by(place: CpuPlace, autogroup_nice: int | None, policy: str) -> str:
    """What makes a helper give way to all others that we see; "" = nothing does. Pure.

    Args:
        autogroup_nice: None = the kernel has no autogroups, or they are off.
        policy: as in `Applied`.
    """
    if place.idle:
        by = BY_GROUP if place.top.startswith(OWN_PREFIX) else BY_SLICE
        return by if place.idle[0] else ""
    if place.enclosed or autogroup_nice is None:
        return BY_POLICY if policy == "idle" else ""
    return BY_AUTOGROUP if autogroup_nice == 19 else ""


def why_not(place: CpuPlace) -> str:
    """Why a helper with this place does not give way and what to do, in words. Pure."""
    if place.idle:
        inner = "; cpu.idle of a group inside it counts only there" if any(place.idle) else ""
        return (
            f"its cgroup {place.path} has an ordinary weight at the top ({place.top}), however low a "
            f"helper is inside{inner}; let systemd start the pool hosts in a top-level slice with "
            "CPUWeight=idle, or start the daemon in the root cgroup"
        )
    return (
        "its session has the weight of any other; let the daemon write /proc/self/autogroup, or make "
        "groups with cpu.idle below the root cgroup"
    )


def _is_idle(group: Path) -> bool:
    return (read_kernel_text(group / "cpu.idle") or "").strip() == "1"
