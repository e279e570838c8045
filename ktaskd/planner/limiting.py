"""Decides what limited a job. Pure: the caller brings times and situations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktaskd.model.job import JobState
from ktaskd.model.limits import DEFAULT_MAX_THREADS
from ktaskd.model.story import Situation
from ktaskd.planner.threads import ceil_div

ONE_WRITER, MEMORY_GROUP, TOO_SMALL = "ONE_WRITER", "MEMORY_GROUP", "TOO_SMALL"
MAX_THREADS, FEW_CPUS, FEW_FILES = "MAX_THREADS", "FEW_CPUS", "FEW_FILES"
CLIENT_LIMIT, CLIENT_CPUS = "CLIENT_LIMIT", "CLIENT_CPUS"
WIDTHS = frozenset((
    ONE_WRITER, MEMORY_GROUP, TOO_SMALL, MAX_THREADS, FEW_CPUS, FEW_FILES, CLIENT_LIMIT, CLIENT_CPUS,
))  # fmt: skip
"""Codes of what limits the number of workers of a job for its whole life."""

SATURATED, STARVED, STARTING = "SATURATED", "STARVED", "STARTING"
COMBINE, UNDO = "COMBINE", "UNDO"

_SATURATED_PART = 0.1
"""If a job was saturated for this part of its time, it was for all of it: that is found out only late."""

_STOPPING = (JobState.DRAINING, JobState.UNDOING)


@dataclass(frozen=True, slots=True)
class Width:
    """The facts that decide how many workers a job may have.

    Args:
        alone: why it has only one, whatever else holds: ONE_WRITER, MEMORY_GROUP, or "".
        wanted: workers by its plan; `threads` as its caller's limits allow.
        total, min_chunk: positions, and the fewest for one worker.
        max_threads: as the client asked; 0 = it did not.
        cpu_quota, cpus: of the caller, in CPUs; 0 = not limited, not known.
        machine_cpus: CPUs that the daemon has helpers on; 0 = not known.
        by_file: a position is a whole file, which one worker reads.
    """

    alone: str
    wanted: int
    threads: int
    total: int
    min_chunk: int
    max_threads: int = 0
    cpu_quota: float = 0.0
    cpus: int = 0
    machine_cpus: int = 0
    by_file: bool = False


def width_limit(width: Width) -> str:
    """Return the code of what limits the number of workers."""
    if width.alone:
        return width.alone
    if width.threads < width.wanted or 0 < width.cpu_quota < 1:
        return _caller_limit(width)
    if ceil_div(width.total, max(width.min_chunk, 1)) <= width.wanted:
        return FEW_FILES if width.by_file else TOO_SMALL
    return MAX_THREADS if width.wanted >= (width.max_threads or DEFAULT_MAX_THREADS) else FEW_CPUS


def _caller_limit(width: Width) -> str:
    by_quota = width.cpu_quota and (not width.cpus or width.cpu_quota <= width.cpus)
    if by_quota:
        return CLIENT_LIMIT
    return CLIENT_CPUS if not width.machine_cpus or width.cpus < width.machine_cpus else FEW_CPUS


def limit_now(situation: Situation, wanted: int, width: str) -> str:
    """Return the code of what limits a job in one situation.

    Args:
        wanted: workers that the job may have.
        width: as returned by `width_limit`; it limits the job while no cause for fewer workers is known.
    """
    if situation.state is JobState.COMBINING:
        return COMBINE
    if situation.state in _STOPPING:
        return UNDO
    if SATURATED in situation.causes:
        return SATURATED
    if situation.at_work >= wanted:
        return width
    if situation.causes:
        return situation.causes[0]
    return width if situation.at_work else STARTING


def limit_of(seconds: Mapping[str, float]) -> str:
    """Return the code of what limited a job for most of its time, from the seconds of each; "" = for none."""
    if not any(seconds.values()):
        return ""
    weights = dict(seconds)
    if seconds.get(SATURATED, 0.0) >= _SATURATED_PART * sum(seconds.values()):
        for code in WIDTHS & weights.keys():
            weights[SATURATED] += weights.pop(code)
    return max(weights, key=lambda code: weights[code])
