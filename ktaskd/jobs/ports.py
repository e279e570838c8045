"""What jobs ask of the machine, as protocols: tests put doubles in their place."""

from __future__ import annotations

from typing import Protocol


class Raiser(Protocol):
    """What raises a helper; `host.raising` has the real one."""

    @property
    def ways(self) -> tuple[str, ...]:
        """The methods that work on this machine, in words."""

    def raise_(self, pid: int) -> bool:
        """Give a process normal priority; whether that worked, else it may next time."""

    def lower(self, pid: int) -> bool:
        """Make it a helper again; True too if it is gone."""


class NoRaiser:
    """For a machine on which nothing can be raised."""

    ways: tuple[str, ...] = ()

    def raise_(self, pid: int) -> bool:
        """Cannot."""
        return False

    def lower(self, pid: int) -> bool:
        """Need not."""
        return True
