"""How much of the loop's time was used, and when there may be more. No I/O, no clock."""

from __future__ import annotations

DEBT_MAX_S = 2.0
"""No debt is longer, whatever one step cost: a caller is slowed down, never locked out."""


class Meter:
    """A debt of seconds, which the passing of time pays off."""

    __slots__ = ("_paid_at_s",)

    def __init__(self) -> None:
        """Nothing was used."""
        self._paid_at_s = 0.0

    def charge(self, now_s: float, cost_s: float) -> None:
        """Add to the debt."""
        self._paid_at_s = min(max(self._paid_at_s, now_s) + cost_s, now_s + DEBT_MAX_S)

    def debt_s(self, now_s: float) -> float:
        """Seconds until all is paid off; <= 0 = it is."""
        return self._paid_at_s - now_s
