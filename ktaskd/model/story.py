"""The history of one job: who worked on it when, and what kept it from being faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ktaskd.model.job import JobState


class Situation(NamedTuple):
    """A job at one moment.

    Args:
        helpers, leads: workers that hold a part of it.
        causes: codes of the reasons why it has no more workers, the most important one first.
        starved: those of the helpers that get no CPU time; not remembered.
    """

    state: JobState
    helpers: int = 0
    leads: int = 0
    causes: tuple[str, ...] = ()
    starved: int = 0

    @property
    def at_work(self) -> int:
        """Workers that get CPU time."""
        return self.helpers + self.leads - self.starved


@dataclass(frozen=True, slots=True)
class Moment:
    """A change of a job's situation.

    Args:
        at_s: seconds since the acceptance.
        recalled: chunks that were taken back from workers since the previous moment.
        merged: changes that followed this one and were left out.
    """

    at_s: float
    situation: Situation
    recalled: int = 0
    merged: int = 0


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that limited a job.

    Args:
        code: UPPER_SNAKE, stable; the contract lists the codes.
        message, value, threshold: as in a reason for waiting; "" = only the code is known.
        seconds: time for which it was what limited the job.
    """

    code: str
    seconds: float
    message: str = ""
    value: str = ""
    threshold: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """The history of a job.

    Args:
        moments: the first and the last ones; those between them may be merged.
        causes: the one of most time first.
        limit: code of what limited it for most of its time; "" = it took no time.
        wanted: workers that it may have.
        steps_s: CPU time of steps for the whole job, such as combining results.
    """

    moments: tuple[Moment, ...]
    causes: tuple[Cause, ...]
    limit: str
    wanted: int
    steps_s: float = 0.0
