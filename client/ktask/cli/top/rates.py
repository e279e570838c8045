"""Rates of jobs, from the last messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ktask.results import Job

_WINDOW_S = 5.0
"""Older samples are dropped, so that a rate follows a change within this time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The progress of a job at a time in seconds."""

    at_s: float
    positions: int
    bytes: int


Samples = Mapping[str, tuple[Sample, ...]]
"""The last samples of each job, by id, oldest first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Speed of a job in one second, and the seconds that it needs at this speed; None = not known."""

    positions: float = 0.0
    bytes: float = 0.0
    left_s: float | None = None


def sampled(before: Samples, jobs: Iterable[Job], at_s: float) -> Samples:
    """Add the progress of these jobs; other jobs are forgotten."""
    return {job.id: _added(before.get(job.id, ()), job, at_s) for job in jobs}


def _added(before: tuple[Sample, ...], job: Job, at_s: float) -> tuple[Sample, ...]:
    sample = Sample(at_s, job.progress.positions_done, job.progress.bytes_done)
    kept = tuple(one for one in before if at_s - _WINDOW_S <= one.at_s < at_s)
    # Work that was taken back lets the progress fall: what was seen before is no base for a rate.
    return (sample,) if kept and kept[-1].positions > sample.positions else (*kept, sample)


def rate_of(job: Job, samples: Samples) -> Rate | None:
    """The rate of a job; None if it has ended or was seen only once."""
    seen = samples.get(job.id, ())
    if job.state.ended or len(seen) < 2:
        return None
    first, last = seen[0], seen[-1]
    passed_s = last.at_s - first.at_s
    speed = (last.positions - first.positions) / passed_s
    left = max(job.progress.positions_total - last.positions, 0)
    return Rate(
        positions=speed,
        bytes=(last.bytes - first.bytes) / passed_s,
        left_s=left / speed if speed > 0 else None,
    )
