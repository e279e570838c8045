"""The memory limit of a caller's cgroups."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The tightest memory limit of a process.

    Args:
        limit_bytes: limit of the limiting group.
        limiting: directory of the group with the limit: the process's own or an ancestor.
        group: directory of the process's own group, to which its memory must be charged; "" if it
            is not visible in the daemon's mounts.
    """

    limit_bytes: int
    limiting: str
    group: str
