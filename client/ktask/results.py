"""What the daemon says, as frozen dataclasses; no protobuf in them.

Positions are what a function counts: bytes, unless it says otherwise. Times are
aware datetimes in UTC. Enum values are the contract's names without prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """Where a job is in its life."""

    UNSPECIFIED = "UNSPECIFIED"
    """One that this version of the library does not know."""
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMBINING = "COMBINING"
    DRAINING = "DRAINING"
    UNDOING = "UNDOING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DIRTY = "DIRTY"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in _ENDED


_ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DIRTY})


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open piece [start, end) of a job's positions."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Range:
    """A piece of the position space; nid None = the caller's node, -1 = any."""

    start: int
    length: int
    nid: int | None = None


@dataclass(frozen=True, slots=True)
class SourceName:
    """A source as a job names it: exactly one of the two is set."""

    handle: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as it was asked for; 0 and None mean "the default".

    Args:
        items, ranges: the first of them; the daemon does not remember all.
        items_omitted, ranges_omitted: how many more the job has.
    """

    function: str
    arg: Mapping[str, Any]
    sources: Mapping[str, SourceName]
    items: tuple[SourceName, ...]
    ranges: tuple[Range, ...]
    min_chunk: int
    max_threads: int
    undo: bool | None
    labels: Mapping[str, str]
    request_id: str
    items_omitted: int = 0
    ranges_omitted: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. Bytes are 0 where positions have no fixed size."""

    positions_done: int = 0
    positions_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    chunks_done: int = 0
    chunks_total: int = 0
    running_helpers: int = 0
    running_leads: int = 0


@dataclass(frozen=True, slots=True)
class JobError:
    """Why and how a job ended badly.

    Args:
        reason: UPPER_SNAKE, stable.
        chunk: where it happened; None if in no chunk.
        nid: node whose share that chunk was; -1 = any.
        undone, dirty: positions that were put back, and positions that may
            have changed and were not; the first 1000 spans of each.
        undone_omitted, dirty_omitted: how many more spans there are.
        undone_hull, dirty_hull: the least span around all of them, those omitted
            included; None if there are none.
    """

    reason: str
    message: str
    chunk: Span | None
    nid: int
    errno: int
    exception: str
    signal: int
    undone: tuple[Span, ...]
    dirty: tuple[Span, ...]
    undone_omitted: int = 0
    dirty_omitted: int = 0
    undone_hull: Span | None = None
    dirty_hull: Span | None = None


@dataclass(frozen=True, slots=True)
class JobWarning:
    """What the caller of a job should know, although the job went on.

    Args:
        code: UPPER_SNAKE, stable: SOURCE_CHANGED.
        source: role of the source that it is about; "" if it is about an item.
        item: place in `items` of the one that it is about; None if about none.
    """

    code: str
    message: str
    source: str = ""
    item: int | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause why fewer workers run than could."""

    code: str
    message: str
    value: str
    threshold: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """CPU time spent on a job, in seconds, and what was done to keep it going.

    Args:
        chunks_rerun: chunks that were run again after their worker was lost.
        chunks_run_twice: chunks that the lead ran while a starved helper still held them.
        helpers_raised: times that a helper got normal priority to finish a chunk.
    """

    lead_seconds: float
    helper_seconds: float
    chunks_recalled: int
    chunks_rerun: int
    helpers_raised: int
    chunks_run_twice: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who submitted a job; the pid is for display only."""

    uid: int
    gid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job was cut up: workers, and the largest chunk in positions."""

    threads: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job and everything that is known of it.

    Args:
        result: what the function found; None unless the job has succeeded.
            Whole numbers are int. A job over items has "items", a list in
            order, or "items_omitted" where that is too large: `watch` has them.
        error: set when it ended otherwise than SUCCEEDED.
        waiting_reasons: why it does not run, or runs with fewer workers.
        detached: nobody waits for it; it goes on without its submitter.
        sequence: grows with every change.
        warnings: what to know of it although it went on, at most 100; a source that changed
            while it was read is one.
        warnings_omitted: how many more there were.
    """

    id: str
    spec: JobSpec
    state: JobState
    progress: Progress
    result: Mapping[str, Any] | None
    error: JobError | None
    waiting_reasons: tuple[Reason, ...]
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    cpu: CpuUsage
    owner: Owner
    detached: bool
    plan: Plan | None
    sequence: int
    warnings: tuple[JobWarning, ...] = ()
    warnings_omitted: int = 0

    @property
    def function(self) -> str:
        """Name of its thread function."""
        return self.spec.function


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one item, at its place in `items` from 0."""

    index: int
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """One step of a watch: the job as it is now, and results not sent before."""

    sequence: int
    job: Job
    results: tuple[ItemResult, ...]
    final: bool
