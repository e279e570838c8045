"""Jobs and their parts, as frozen dataclasses; no protobuf in them.

Positions are what a function counts: bytes, unless it declares otherwise. Times are
aware datetimes in UTC. Enum values are the contract's names without prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """The states of a job's life."""

    UNSPECIFIED = "UNSPECIFIED"
    """A state that this version of the library does not know."""
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
    """The half-open span [start, end) of a job's positions."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Range:
    """A piece of the position space; a nid of None is the caller's node, -1 any node."""

    start: int
    length: int
    nid: int | None = None


@dataclass(frozen=True, slots=True)
class SourceName:
    """How a job names a source: exactly one of handle and path is set.

    Args:
        name: the submitter's own name for it, such as a path; only the first 16 of a job have one.
    """

    handle: str = ""
    path: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as it was requested; 0 and None mean "the default".

    Args:
        items, ranges: the first ones; the daemon does not keep all.
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
    """Progress of a job. Bytes are 0 if positions have no fixed size."""

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
    """Why a job did not succeed, and what became of its positions.

    Args:
        reason: UPPER_SNAKE, stable.
        chunk: where it happened; None if in no chunk.
        nid: the node that chunk belonged to; -1 = any.
        undone, dirty: positions that were restored, and positions that may
            have changed and were not restored; the first 1000 spans of each.
        undone_omitted, dirty_omitted: how many more spans there are.
        undone_hull, dirty_hull: the smallest span around all of them, including the
            omitted ones; None if there are none.
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
    """Something the caller of a job should know although the job went on.

    Args:
        code: UPPER_SNAKE, stable: SOURCE_CHANGED.
        source: role of the source concerned; "" if it is an item.
        item: index in `items` of the item concerned; None if it is a source.
    """

    code: str
    message: str
    source: str = ""
    item: int | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why fewer workers run than could."""

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
        helpers_raised: how often a helper got normal priority to finish a chunk.
    """

    lead_seconds: float
    helper_seconds: float
    chunks_recalled: int
    chunks_rerun: int
    helpers_raised: int
    chunks_run_twice: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """The submitter of a job; the pid is for display only."""

    uid: int
    gid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job was divided: workers, and the largest chunk in positions."""

    threads: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job with all its details.

    Args:
        result: what the function found; None unless the job has succeeded.
            Whole numbers are int. A job over items has "items", a list in
            order, or "items_omitted" if the list is too large: `watch` has the results.
        error: set when the job ended in another state than SUCCEEDED.
        waiting_reasons: why it does not run, or runs with fewer workers.
        detached: whether it goes on without its submitter.
        sequence: grows with every change.
        warnings: at most 100, such as of a source that changed while it was read.
        warnings_omitted: how many more there were.
        command: command line of the submitter's process, at most 255 characters; "" = not known.
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
    command: str = ""

    @property
    def function(self) -> str:
        """Name of its thread function."""
        return self.spec.function


@dataclass(frozen=True, slots=True)
class Moment:
    """A change of a job's situation, which lasts until the next moment.

    Args:
        seconds: since the acceptance.
        helpers, leads: workers that hold a part of the job.
        causes: codes of the reasons for which it has no more workers.
        chunks_recalled: since the moment before.
        merged: changes after this one that were left out.
    """

    seconds: float
    state: JobState
    helpers: int
    leads: int
    causes: tuple[str, ...]
    chunks_recalled: int
    merged: int


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that limited a job, and the seconds for which it did."""

    code: str
    message: str
    value: str
    threshold: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Story:
    """The history of a job.

    Args:
        causes: the one of most time first.
        limit: code of what limited it for most of its time; "" = it took no time.
        threads: workers that it may have at the same time.
        step_seconds: CPU time of steps for the whole job.
    """

    moments: tuple[Moment, ...]
    causes: tuple[Cause, ...]
    limit: str
    threads: int
    step_seconds: float


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one item; `index` counts the items from 0."""

    index: int
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """One step of a watch: the job as it is now, and results that were not sent before."""

    sequence: int
    job: Job
    results: tuple[ItemResult, ...]
    final: bool
