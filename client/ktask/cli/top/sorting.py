"""The orders in which jobs can be shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ktask.cli.top.rates import Samples, rate_of

if TYPE_CHECKING:
    from ktask.results import Job


class Sort(StrEnum):
    """The value that jobs are sorted by."""

    STATE = "state"
    """Running ones first, then queued ones, then ended ones; the oldest first."""
    RATE = "rate"
    LEFT = "time left"
    DONE = "part done"
    USER = "user"
    FUNCTION = "function"


def in_order(
    jobs: Iterable[Job], sort: Sort, samples: Samples, users: Mapping[int, str], *, reverse: bool = False
) -> list[Job]:
    """The jobs, sorted. Equal ones stay in the order of their states and ages."""
    found = sorted(jobs, key=_by_state)
    if sort is not Sort.STATE:
        found.sort(key=_key_of(sort, samples, users))
    return found[::-1] if reverse else found


def part_done(job: Job) -> float:
    """The part of its positions that is done, 0 to 1."""
    total = job.progress.positions_total
    return min(job.progress.positions_done / total, 1.0) if total else 0.0


def _by_state(job: Job) -> tuple[int, float, str]:
    begun = job.create_time.timestamp() if job.create_time is not None else 0.0
    if job.state.ended:
        return 2, begun, job.id
    return (1 if job.state == "QUEUED" else 0), begun, job.id


def _key_of(sort: Sort, samples: Samples, users: Mapping[int, str]) -> Callable[[Job], Any]:
    def rate(job: Job) -> tuple[float, float]:
        found = rate_of(job, samples)
        return (-found.bytes, -found.positions) if found is not None else (0.0, 0.0)

    def left(job: Job) -> float:
        found = rate_of(job, samples)
        return float("inf") if found is None or found.left_s is None else found.left_s

    keys: dict[Sort, Callable[[Job], Any]] = {
        Sort.RATE: rate,
        Sort.LEFT: left,
        Sort.DONE: lambda job: -part_done(job),
        Sort.USER: lambda job: users.get(job.owner.uid, str(job.owner.uid)),
        Sort.FUNCTION: lambda job: job.function,
    }
    return keys[sort]
