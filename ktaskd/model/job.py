"""A job: its request, its progress, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from ktaskd.model.compact import compact
from ktaskd.model.function import ArgValue
from ktaskd.model.limits import ITEMS_KEPT, RANGES_KEPT, SPEC_TEXT_KEPT
from ktaskd.model.spans import Span
from ktaskd.model.trace import NO_TRACE, Trace

JobId = NewType("JobId", str)


class JobState(Enum):
    """The states of a job. `jobs.machine` has the transitions."""

    QUEUED = "queued"
    RUNNING = "running"
    COMBINING = "combining"
    DRAINING = "draining"
    UNDOING = "undoing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DIRTY = "dirty"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in _ENDED


_ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.DIRTY})


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A source as a request names it: by exactly one of handle and path.

    Args:
        name: the client's own name for it, for display. Two requests that differ only in it are the same.
    """

    handle: str = ""
    path: str = ""
    name: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """A range of positions; nid None = the caller's node."""

    start: int
    length: int
    nid: int | None = None

    @property
    def end(self) -> int:
        """Position after the last one."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as requested; 0 and None mean "the default".

    Args:
        items_omitted, ranges_omitted: number of further items and ranges, if only the first ones
            are kept (`abridged`).
        trace: that the job is part of; no part of what is requested.
    """

    function: str
    arg: Mapping[str, ArgValue] = field(default_factory=dict)
    sources: Mapping[str, SourceRef] = field(default_factory=dict)
    items: tuple[SourceRef, ...] = ()
    ranges: tuple[RangeSpec, ...] = ()
    min_chunk: int = 0
    max_threads: int = 0
    undo: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    items_omitted: int = 0
    ranges_omitted: int = 0
    trace: Trace = NO_TRACE


def abridged(spec: JobSpec) -> JobSpec:
    """The spec of an accepted job with only its first items and ranges, to be kept and reported.

    A spec of 100,000 items takes up to 20 MiB; the work to do is in the job's plan.
    """
    room = SPEC_TEXT_KEPT
    items = 0
    for item in spec.items[:ITEMS_KEPT]:
        room -= len(item.handle) + len(item.path)
        if room < 0 and items:
            break
        items += 1
    # Not by `replace`, which takes ten times as long: this is done for each job.
    return JobSpec(
        function=spec.function,
        arg=compact(spec.arg),
        sources=compact(spec.sources),
        items=spec.items[:items],
        ranges=spec.ranges[:RANGES_KEPT],
        min_chunk=spec.min_chunk,
        max_threads=spec.max_threads,
        undo=spec.undo,
        labels=compact(spec.labels),
        request_id=spec.request_id,
        items_omitted=len(spec.items) - items,
        ranges_omitted=max(len(spec.ranges) - RANGES_KEPT, 0),
        trace=spec.trace,
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job."""

    positions_done: int = 0
    positions_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    chunks_done: int = 0
    chunks_total: int = 0
    running_helpers: int = 0
    running_leads: int = 0


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """CPU time spent on a job, and the measures that kept it going.

    Args:
        chunks_rerun: chunks that were run again after their worker was lost.
        chunks_run_twice: chunks that the lead ran while a starved helper still held them.
        helpers_raised: how often a starved helper was raised.
    """

    lead_s: float = 0.0
    helper_s: float = 0.0
    chunks_recalled: int = 0
    chunks_rerun: int = 0
    chunks_run_twice: int = 0
    helpers_raised: int = 0


@dataclass(frozen=True, slots=True)
class JobWarning:
    """A problem that the caller should know of, although the job went on.

    Args:
        code: UPPER_SNAKE, stable; the contract lists the codes.
        source: role of the source concerned; "" = none.
        item: number of the item concerned, from 0; None = none.
    """

    code: str
    message: str
    source: str = ""
    item: int | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, and what it left behind.

    Args:
        reason: UPPER_SNAKE, stable; the contract lists the reasons.
        chunk: the chunk that failed.
        nid: the node of the failed chunk's range; -1 = any.
        undone, dirty: positions that were put back, and positions that may have changed and were
            not put back; the first SPANS_LISTED spans of each.
        undone_omitted, dirty_omitted: number of further spans.
        undone_hull, dirty_hull: smallest span around all of them; None if there are none.
    """

    reason: str
    message: str
    chunk: Span | None = None
    nid: int = -1
    errno: int = 0
    exception: str = ""
    signal: int = 0
    undone: tuple[Span, ...] = ()
    dirty: tuple[Span, ...] = ()
    undone_omitted: int = 0
    dirty_omitted: int = 0
    undone_hull: Span | None = None
    dirty_hull: Span | None = None
