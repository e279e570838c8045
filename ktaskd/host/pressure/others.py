"""How long the cgroups of others waited for a CPU, or for a disk.

The others are all groups beside ours and beside those that ours are in: with
the daemon in /system.slice/ktaskd.service and helpers below /ktaskd.slice they
are /user.slice, /init.scope ... and the other services. No two of them overlap.

Several may wait at one time, and PSI does not say whether they did. The truth is
between the longest wait and the sum; the sum is taken, at most the time that
passed: leaving the host alone comes before throughput.

PSI also counts the time in which a group's own cpu.max holds it up. That is not
for want of CPUs, and so a group that was held up meanwhile counts for nothing.
For groups further down it cannot be told apart.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from ktaskd.host.cgroups.cgroup import find_unified_mount, read_throttled, read_unified_group
from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.model.observation import Stall

GROUPS_MAX = 256
"""Groups that are looked at; each costs a read."""

_NAMED = 3
"""Groups that `source` calls by name."""

_Names = tuple[str, ...]


class GroupStall:
    """Adds up how long groups of others waited for one resource, from one reading to the next.

    Attributes:
        source: which files the last reading came from.
    """

    def __init__(self, resource: str) -> None:
        """Nothing is read yet.

        Args:
            resource: "cpu" or "io".
        """
        self.source = ""
        self._resource = resource
        self._last: dict[Path, tuple[int, int]] = {}
        self._last_s = 0.0

    def read(self, now_s: float, groups: Collection[Path]) -> int | None:
        """Microseconds that they waited since the last reading; None = they do not say.

        A group that is seen for the first time waited for nothing yet.
        """
        now: dict[Path, tuple[int, int]] = {}
        for group in groups:
            stall = read_stall(group / f"{self._resource}.pressure")
            if stall is not None:
                now[group] = (stall.some_us, _read_held_up(group) if self._resource == "cpu" else 0)
        passed_us = int((now_s - self._last_s) * 1_000_000)
        waits = (_waited(self._last.get(group, new), new) for group, new in now.items())
        # No group waits for longer than time: twice of it, and a second, is no reading of PSI.
        waited = sum(wait for wait in waits if wait <= 2 * passed_us + 1_000_000)
        self._last, self._last_s = now, now_s
        self.source = f"{self._resource}.pressure of {_name([group.name for group in now])}"
        return min(waited, passed_us) if now else None

    @property
    def files(self) -> frozenset[Path]:
        """What the last reading read."""
        return frozenset(group / f"{self._resource}.pressure" for group in self._last)


class OtherGroups:
    """Finds the groups of others, again and again, since they come and go."""

    def __init__(self, root: HostRoot) -> None:
        """Of this machine."""
        self._root = root

    def find(self, own: Collection[int | str]) -> list[Path]:
        """Directories of the groups of others; empty where not all others are in groups of their own."""
        top = find_unified_mount(self._root)
        ours = {_split(read_unified_group(self._root, pid)) for pid in own} - {None}
        if top is None or not ours or () in ours:
            return []
        mine = {names for names in ours if names is not None}
        if any(self._is_shared(top.joinpath(*names), own) for names in mine):
            return []
        return sorted(_beside(top, mine))[:GROUPS_MAX]

    def _is_shared(self, group: Path, own: Collection[int | str]) -> bool:
        """Whether strangers live in a group of ours, as in a login session: they would not be seen."""
        own_text = {str(pid) for pid in own}
        own_text |= {(self._root.process_text("self", "stat") or "").partition(" ")[0]}
        return not set((read_kernel_text(group / "cgroup.procs") or "").split()) <= own_text


def parse_pressure(text: str) -> Stall | None:
    """The totals of a file of PSI; None if it has none: PSI is off, or another format.

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
    """Microseconds that a group waited for others; totals that fell are those of a new group."""
    return max(0, now[0] - before[0]) if now[1] == before[1] else 0


def _read_held_up(group: Path) -> int:
    """How often the group's own limit held it up; 0 without one."""
    limited = not (read_kernel_text(group / "cpu.max") or "max").startswith("max")
    return read_throttled(group) if limited else 0


def read_stall(path: Path) -> Stall | None:
    """The totals of one file of PSI; None if it has none."""
    return parse_pressure(read_kernel_text(path) or "")


def _split(path: str) -> _Names | None:
    """Names in a cgroup's path; None if it is none or leads out of our namespace."""
    names = tuple(filter(None, path.split("/")))
    return names if path.startswith("/") and ".." not in names else None


def _beside(top: Path, ours: set[_Names]) -> Iterator[Path]:
    """Groups that neither hold a group of ours nor are in one."""
    above = {names[:depth] for names in ours for depth in range(len(names))}
    for parent in above:
        if any(parent[:depth] in ours for depth in range(len(parent) + 1)):
            continue  # below one of ours all is ours
        for child in _children(top.joinpath(*parent)):
            if (*parent, child.name) not in above | ours:
                yield child


def _children(group: Path) -> list[Path]:
    try:
        return [child for child in group.iterdir() if os.path.isdir(child)]
    except (OSError, ValueError):  # it went away; or a NUL in its name
        return []


def _name(groups: list[str]) -> str:
    more = len(groups) - _NAMED
    return ", ".join(groups[:_NAMED]) + (f" and {more} more" if more > 0 else "")
