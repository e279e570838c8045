"""A job: what was asked for, where it is, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NewType

from ktaskd.model.compact import compact
from ktaskd.model.function import ArgValue
from ktaskd.model.limits import ITEMS_TOLD, RANGES_TOLD, SPEC_TEXT_TOLD
from ktaskd.model.spans import Span

JobId = NewType("JobId", str)


class JobState(Enum):
    """Where a job is in its life. `jobs.machine` has the transitions."""

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
    """A source as a request names it: exactly one of the two is set."""

    handle: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """A piece of the position space; nid None = the caller's node."""

    start: int
    length: int
    nid: int | None = None

    @property
    def end(self) -> int:
        """Position after the last."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as it was asked for; 0 and None mean "the default".

    Args:
        items_omitted, ranges_omitted: how many more there were, where only the
            first are remembered (`abridged`).
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


def abridged(spec: JobSpec) -> JobSpec:
    """What is remembered of an accepted job's spec, and told of it: the first items and ranges.

    One of 100,000 items takes up to 20 MiB; what there is to do is in the job's plan.
    """
    room = SPEC_TEXT_TOLD
    items = 0
    for item in spec.items[:ITEMS_TOLD]:
        room -= len(item.handle) + len(item.path)
        if room < 0 and items:
            break
        items += 1
    return replace(
        spec,
        arg=compact(spec.arg),
        sources=compact(spec.sources),
        labels=compact(spec.labels),
        items=spec.items[:items],
        ranges=spec.ranges[:RANGES_TOLD],
        items_omitted=len(spec.items) - items,
        ranges_omitted=max(len(spec.ranges) - RANGES_TOLD, 0),
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

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
    """CPU time spent on a job, and what was done to keep it going.

    Args:
        chunks_rerun: after their worker was lost.
        chunks_run_twice: by the lead, while a starved helper still held them.
        helpers_raised: times that a starved helper was raised.
    """

    lead_s: float = 0.0
    helper_s: float = 0.0
    chunks_recalled: int = 0
    chunks_rerun: int = 0
    chunks_run_twice: int = 0
    helpers_raised: int = 0


@dataclass(frozen=True, slots=True)
class JobWarning:
    """What its caller should know of a job that went on all the same.

    Args:
        code: UPPER_SNAKE, stable; the contract lists them.
        source: role of the source that it is about; "" = of none.
        item: the item that it is about, from 0; None = none.
    """

    code: str
    message: str
    source: str = ""
    item: int | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why and how a job ended badly.

    Args:
        reason: UPPER_SNAKE, stable; the contract lists them.
        chunk: where it happened, with the node whose share it was.
        undone, dirty: positions put back, and positions that may have changed
            and were not; the first SPANS_TOLD spans of each.
        undone_omitted, dirty_omitted: spans that there are beyond those.
        undone_hull, dirty_hull: the least span around all; None if there are none.
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
