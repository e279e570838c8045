"""What a caller's memory cgroups allow it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The tightest memory limit of a process.

    Args:
        limit_bytes: what the limiting group may have at most.
        limiting: directory of the group that has the limit: the process's own
            or an ancestor of it.
        group: directory of the process's own group, which is where memory must
            be charged to count as its; "" if no mount of ours shows it.
    """

    limit_bytes: int
    limiting: str
    group: str
