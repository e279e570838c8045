"""How many workers may run now, and why no more may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum


class Level(IntEnum):
    """How much the governor restricts work; a higher level leaves less running."""

    RUN = 0
    """All helpers run."""
    FEWER = 1
    """Some helpers run."""
    LEADS_ONLY = 2
    """No helper runs: jobs that somebody waits for continue with their lead alone."""
    PAUSED = 3
    """As LEADS_ONLY, and jobs that nobody waits for get no lead either."""


class Mode(Enum):
    """The mode that an administrator sets."""

    AUTO = "auto"
    """The governor decides how many helpers may run, from its readings of the machine."""
    ALWAYS = "always"
    """All helpers may always run."""
    PAUSED = "paused"
    """No helper may run, and jobs that nobody waits for are paused."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why fewer workers run than could.

    Args:
        code: UPPER_SNAKE, stable.
        since_s: begin, in seconds since the epoch.
    """

    code: str
    message: str
    value: str = ""
    threshold: str = ""
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Limits of the workers that may hold a chunk at the same time.

    Args:
        helpers: by node.
        leads: for all uids together.
        leads_per_uid: for each uid.
        reasons: every active reason for fewer helpers than there are.
        level: how much is left running; PAUSED also withholds leads from detached jobs.
        duty: fraction of the time that helpers may work, above 0 to 1.
    """

    helpers: Mapping[int, int]
    leads: int
    leads_per_uid: int
    reasons: tuple[Reason, ...] = ()
    level: Level = Level.RUN
    duty: float = 1.0
