"""The facts and the sources that a job gets when it is accepted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.model.allowance import Allowance
from ktaskd.model.job import JobId


@dataclass(frozen=True, slots=True)
class Accepted:
    """Number, id and time of an accepted job.

    Args:
        jno: its number, ascending with acceptance; workers know it by this.
        at_s: seconds since the epoch.
        allowance: returns the governor's allowance as it is now.
    """

    job_id: JobId
    jno: int
    at_s: float
    allowance: Callable[[], Allowance | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Sources:
    """The open sources of a job.

    Args:
        items: the sources of its items, in order.
        owned: every source once; the job gives back one reference to each.
    """

    by_role: Mapping[str, HeldSource] = field(default_factory=dict)
    items: tuple[HeldSource, ...] = ()
    owned: Collection[HeldSource] = ()
