"""How long the cgroups of others waited for a CPU, or for a disk.

The groups of others are the siblings of our groups and of all groups above ours: with the daemon in
/system.slice/ktaskd.service and helpers below /ktaskd.slice they are /user.slice, /init.scope ...
and the other services. No two of them overlap.

Several groups may wait at the same time, and PSI does not report whether they did. The truth lies
between the longest wait and the sum. The sum is used, limited to the time that passed, since leaving
the host alone comes before throughput.

PSI also counts the time in which a group is throttled by its own cpu.max. That is no lack of CPUs,
so a group that was throttled meanwhile is not counted. In groups further down the two cannot be
distinguished.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from ktaskd.host.cgroups.cgroup import find_unified_mount, read_throttled, read_unified_group
from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.model.observation import Stall

GROUPS_MAX = 256
"""Most groups that are read; each costs a read."""

_NAMED = 3
"""Groups that `source` names."""

_Names = tuple[str, ...]


class GroupStall:
    """Adds up how long groups of others waited for one resource, from one reading to the next.

    Attributes:
        source: the files of the last reading.
    """

    def __init__(self, resource: str) -> None:
        """Read nothing yet.

        Args:
            resource: "cpu" or "io".
        """
        self.source = ""
        self._resource = resource
        self._last: dict[Path, tuple[int, int]] = {}
        self._last_s = 0.0

    def read(self, now_s: float, groups: Collection[Path]) -> int | None:
        """Microseconds that the groups waited since the last reading; None = they do not report it.

        A group that is new counts from now on.
        """
        now: dict[Path, tuple[int, int]] = {}
        for group in groups:
            stall = read_stall(group / f"{self._resource}.pressure")
            if stall is not None:
                now[group] = (stall.some_us, _read_own_throttling(group) if self._resource == "cpu" else 0)
        passed_us = int((now_s - self._last_s) * 1_000_000)
        waits = (_waited(self._last.get(group, new), new) for group, new in now.items())
        # A group cannot wait longer than time passes. More than twice that and a second is no real reading.
        waited = sum(wait for wait in waits if wait <= 2 * passed_us + 1_000_000)
        self._last, self._last_s = now, now_s
        self.source = f"{self._resource}.pressure of {_name([group.name for group in now])}"
        return min(waited, passed_us) if now else None

    @property
    def files(self) -> frozenset[Path]:
        """The files that the last reading read."""
        return frozenset(group / f"{self._resource}.pressure" for group in self._last)


class OtherGroups:
    """Finds the groups of others, repeatedly, since they come and go."""

    def __init__(self, root: HostRoot) -> None:
        """Use this machine."""
        self._root = root

    def find(self, own: Collection[int | str]) -> list[Path]:
        """Directories of the groups of others; empty if some others are not in a group of their own."""
        top = find_unified_mount(self._root)
        ours = {_split(read_unified_group(self._root, pid)) for pid in own} - {None}
        if top is None or not ours or () in ours:
            return []
        mine = {names for names in ours if names is not None}
        if any(self._is_shared(top.joinpath(*names), own) for names in mine):
            return []
        return sorted(_siblings(top, mine))[:GROUPS_MAX]

    def _is_shared(self, group: Path, own: Collection[int | str]) -> bool:
        """Whether a group of ours has processes of others, as in a login session; they would be missed."""
        own_text = {str(pid) for pid in own}
        own_text |= {(self._root.process_text("self", "stat") or "").partition(" ")[0]}
        return not set((read_kernel_text(group / "cgroup.procs") or "").split()) <= own_text


def parse_pressure(text: str) -> Stall | None:
    """Parse the totals of a PSI file; None if it has none, because PSI is off or the format differs.

    Source: Documentation/accounting/psi.rst
    """
    totals: dict[str, int] = {}
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        for word in rest.split(" "):
            name, _, value = word.partition("=")
            if name == "total" and value.isascii() and value.isdigit() and len(value) <= 20:
                totals[kind] = int(value)
    return Stall(totals["some"], totals.get("full")) if "some" in totals else None


def _waited(before: tuple[int, int], now: tuple[int, int]) -> int:
    """Microseconds that a group waited for others; if the total fell it is a new group."""
    return max(0, now[0] - before[0]) if now[1] == before[1] else 0


def _read_own_throttling(group: Path) -> int:
    """Read how often the group's own limit throttled it; 0 without a limit."""
    limited = not (read_kernel_text(group / "cpu.max") or "max").startswith("max")
    return read_throttled(group) if limited else 0


def read_stall(path: Path) -> Stall | None:
    """Read the totals of a PSI file; None if it has none."""
    return parse_pressure(read_kernel_text(path) or "")


def _split(path: str) -> _Names | None:
    """Names in a cgroup's path; None if it is invalid or leaves our namespace."""
    names = tuple(filter(None, path.split("/")))
    return names if path.startswith("/") and ".." not in names else None


def _siblings(top: Path, ours: set[_Names]) -> Iterator[Path]:
    """Groups that neither contain a group of ours nor are in one."""
    above = {names[:depth] for names in ours for depth in range(len(names))}
    for parent in above:
        if any(parent[:depth] in ours for depth in range(len(parent) + 1)):
            continue  # everything below a group of ours is ours
        for child in _children(top.joinpath(*parent)):
            if (*parent, child.name) not in above | ours:
                yield child


def _children(group: Path) -> list[Path]:
    try:
        return [child for child in group.iterdir() if os.path.isdir(child)]
    except (OSError, ValueError):  # it is gone; or its name has a NUL
        return []


def _name(groups: list[str]) -> str:
    more = len(groups) - _NAMED
    return ", ".join(groups[:_NAMED]) + (f" and {more} more" if more > 0 else "")
