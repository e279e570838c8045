"""Measures use of the loop's time as a debt that passing time pays off. No I/O, no clock."""

from __future__ import annotations

DEBT_MAX_S = 2.0
"""Longest debt, whatever one step cost: a caller is slowed down, never locked out."""


class Meter:
    """A debt of seconds, which the passing of time pays off."""

    __slots__ = ("_paid_at_s",)

    def __init__(self) -> None:
        """There is no debt."""
        self._paid_at_s = 0.0

    def charge(self, now_s: float, cost_s: float) -> None:
        """Add to the debt."""
        self._paid_at_s = min(max(self._paid_at_s, now_s) + cost_s, now_s + DEBT_MAX_S)

    def debt_s(self, now_s: float) -> float:
        """Return the seconds until the debt is paid off; <= 0 = there is none."""
        return self._paid_at_s - now_s
