"""How many workers may run now, and why not more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause why fewer workers run than could.

    Args:
        code: UPPER_SNAKE, stable.
        since_s: since when, seconds since the epoch.
    """

    code: str
    message: str
    value: str = ""
    threshold: str = ""
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Workers that may hold a chunk at one time.

    Args:
        helpers: by node.
        leads: for all uids together.
        leads_per_uid: for one uid.
    """

    helpers: Mapping[int, int]
    leads: int
    leads_per_uid: int
    reasons: tuple[Reason, ...] = ()
