"""The steps of a job: work that one worker does once, before the chunks, after them, or in the undo. Pure.

Each step knows whether it may be repeated after it was begun, and whether a worker may give it back.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ktaskd.jobs.items import encode
from ktaskd.jobs.parts import Parts, take_fitting
from ktaskd.model.function import Partial
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.model.spans import Span
from ktaskd.planner.undo import UndoStep
from ktaskd.worker.frames import Op
from ktaskd.worker.messages import Value

Json = dict[str, Any]

COMBINE_BYTES_MAX = FRAME_BYTES_MAX - 1024
"""Bytes of JSON that one Combine step takes, since they travel in one message."""

_NOTHING = Value({})


@dataclass(frozen=True, slots=True)
class Prepare:
    """The step before the first chunk: look at the sources, then set up what the chunks need."""

    op: ClassVar[Op] = Op.PREPARE
    only_reads: ClassVar[bool] = True
    may_break_off: ClassVar[bool] = False
    payload: ClassVar[Json] = {}

    def may_repeat(self, partial: Partial, *, planned: bool) -> bool:
        """True until its worker has reported what it is about to change: it has changed nothing yet."""
        return not planned


@dataclass(frozen=True, slots=True)
class Combine:
    """The step that combines several results into one."""

    parts: list[Json]
    op: ClassVar[Op] = Op.COMBINE
    only_reads: ClassVar[bool] = True
    may_break_off: ClassVar[bool] = False

    @property
    def payload(self) -> Json:
        """The arguments that its worker is sent."""
        return {"parts": self.parts}

    def may_repeat(self, partial: Partial, *, planned: bool) -> bool:
        """Always true, since it reads no source."""
        return True


@dataclass(frozen=True, slots=True)
class Finish:
    """The last step of a job that succeeds.

    Args:
        may_break_off: whether its worker gives it back if the job is stopped or the worker is recalled.
    """

    prepared: Value
    combined: Mapping[str, Any]
    may_break_off: bool
    op: ClassVar[Op] = Op.FINISH
    only_reads: ClassVar[bool] = False

    @property
    def payload(self) -> Json:
        """The arguments that its worker is sent."""
        return {"prepared": self.prepared.content, "combined": self.combined}

    def may_repeat(self, partial: Partial, *, planned: bool) -> bool:
        """As a chunk may."""
        return partial is Partial.RERUN_SAFE


@dataclass(frozen=True, slots=True)
class Undo:
    """A step of the undo: put back positions as they were before the job."""

    step: UndoStep
    op: ClassVar[Op] = Op.UNDO
    only_reads: ClassVar[bool] = False
    may_break_off: ClassVar[bool] = False

    @property
    def payload(self) -> Json:
        """The arguments that its worker is sent."""
        return {"start": self.step.start, "end": self.step.end, "holes": self.step.holes}

    @property
    def span(self) -> Span:
        """The positions that it puts back."""
        return Span(self.step.start, self.step.end)

    def may_repeat(self, partial: Partial, *, planned: bool) -> bool:
        """As a chunk may."""
        return partial is Partial.RERUN_SAFE


@dataclass(frozen=True, slots=True)
class Restore:
    """The last step of an undo: revert what the prepare step did."""

    prepared: Value
    op: ClassVar[Op] = Op.RESTORE
    only_reads: ClassVar[bool] = False
    may_break_off: ClassVar[bool] = False

    @property
    def payload(self) -> Json:
        """The arguments that its worker is sent."""
        return {"prepared": self.prepared.content}

    def may_repeat(self, partial: Partial, *, planned: bool) -> bool:
        """As a chunk may."""
        return partial is Partial.RERUN_SAFE


Step = Prepare | Combine | Finish | Undo | Restore


@dataclass(slots=True)
class Combination:
    """Combines the results of the chunks in rounds, as many at a time as fit into a frame.

    Args:
        waiting: results not combined yet in this round, in order, as JSON text.
    """

    waiting: deque[bytes]
    done: deque[bytes] = field(default_factory=deque)

    @classmethod
    def of(cls, parts: Parts) -> Combination:
        """Take over the results of the chunks, or the one that a worker has combined already."""
        taken = parts.take_all()
        return cls(deque(), taken) if parts.is_combined else cls(taken)

    def next(self) -> Combine | None:
        """Return the next step; None if one result is left."""
        if not self.waiting and len(self.done) == 1:
            return None
        if not self.waiting:
            self.waiting, self.done = self.done, deque()
        return Combine(take_fitting(self.waiting))

    def add(self, value: Mapping[str, Any]) -> None:
        """Add the result of a step."""
        self.done.append(encode(dict(value)))

    @property
    def result(self) -> Json:
        """The one result of all parts."""
        combined: Json = json.loads(self.done[0])
        return combined


@dataclass(slots=True)
class Course:
    """The outcome of a job's steps so far, and the steps that are left.

    Args:
        prepared: the value of the prepare step: reported before it changes anything, and again when it
            is done.
        combined: the combined result, including the parts that only the finish step may read.
    """

    prepared: Value | None = None
    combination: Combination | None = None
    combined: Json = field(default_factory=dict)
    is_to_finish: bool = False
    is_to_restore: bool = False


def too_large(step: Combine) -> str:
    """Return why the parts of a step do not fit into one message; "" = they do."""
    size = len(encode(step.payload))
    if size <= COMBINE_BYTES_MAX:
        return ""
    return (
        f"results of {len(step.parts)} parts: {size} bytes, limit {COMBINE_BYTES_MAX} to be combined; "
        "have the function return less of each"
    )
