"""How many workers may run now, and why not more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum


class Level(IntEnum):
    """How much the governor leaves running; a higher one leaves less."""

    RUN = 0
    """All helpers that there are."""
    FEWER = 1
    """Some helpers."""
    LEADS_ONLY = 2
    """No helper: jobs that somebody waits for go on with their lead alone."""
    PAUSED = 3
    """The same, and jobs that nobody waits for get no lead either."""


class Mode(Enum):
    """Who decides how many helpers may run."""

    AUTO = "auto"
    """The governor, from what it reads of the machine."""
    ALWAYS = "always"
    """Nobody: all helpers, always."""
    PAUSED = "paused"
    """An administrator: no helpers, and jobs that nobody waits for are paused."""


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
    """Workers that may hold a chunk at the same time.

    Args:
        helpers: by node.
        leads: for all uids together.
        leads_per_uid: for one uid.
        level: what is left running; PAUSED also withholds leads from detached jobs.
        reasons: every active one, for fewer helpers than there are.
        duty: part of the time that helpers may work, above 0 to 1.
    """

    helpers: Mapping[int, int]
    leads: int
    leads_per_uid: int
    reasons: tuple[Reason, ...] = ()
    level: Level = Level.RUN
    duty: float = 1.0
