"""The steps that one worker does for a whole job, once: before its chunks, after them, and in its undo. Pure.

A step says itself whether it may be done again after it was begun, and whether a worker may give it back.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ktaskd.jobs.items import encode
from ktaskd.jobs.parts import take_fitting
from ktaskd.model.function import Partial
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.model.spans import Span
from ktaskd.planner.undo import UndoStep
from ktaskd.worker.frames import Op
from ktaskd.worker.messages import Value

Json = dict[str, Any]

COMBINE_BYTES_MAX = FRAME_BYTES_MAX - 1024
"""Results that are combined at the same time, as JSON: they travel in one message."""

_NOTHING = Value({})


@dataclass(frozen=True, slots=True)
class Prepare:
    """Look before the first chunk; then make what the chunks need."""

    op: ClassVar[Op] = Op.PREPARE
    only_reads: ClassVar[bool] = True
    may_break_off: ClassVar[bool] = False
    payload: ClassVar[Json] = {}

    def may_repeat(self, partial: Partial, *, planned: bool) -> bool:
        """Until its worker has reported what it is about to change, it has changed nothing."""
        return not planned


@dataclass(frozen=True, slots=True)
class Combine:
    """Make one result of several."""

    parts: list[Json]
    op: ClassVar[Op] = Op.COMBINE
    only_reads: ClassVar[bool] = True
    may_break_off: ClassVar[bool] = False

    @property
    def payload(self) -> Json:
        """The arguments that its worker is sent."""
        return {"parts": self.parts}

    def may_repeat(self, partial: Partial, *, planned: bool) -> bool:
        """Always: it reads no source."""
        return True


@dataclass(frozen=True, slots=True)
class Finish:
    """The last step of a job that succeeds.

    Args:
        may_break_off: whether its worker gives it back where the job is stopped, or the worker is
            wanted elsewhere.
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
    """Put back what chunks have completed."""

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
    """Take back what the prepare did; the last step of an undo."""

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
    """Chunk results on their way to one: in rounds, as many at a time as fit into a frame.

    Args:
        waiting: results that are still to be combined in this round, in order, as JSON text.
    """

    waiting: deque[bytes]
    done: deque[bytes] = field(default_factory=deque)

    def next(self) -> Combine | None:
        """The next step; None if one result is left."""
        if not self.waiting and len(self.done) == 1:
            return None
        if not self.waiting:
            self.waiting, self.done = self.done, deque()
        return Combine(take_fitting(self.waiting))

    def add(self, value: Mapping[str, Any]) -> None:
        """Note the result that a step has made of its parts."""
        self.done.append(encode(dict(value)))

    @property
    def result(self) -> Json:
        """The one result of all parts."""
        combined: Json = json.loads(self.done[0])
        return combined


@dataclass(slots=True)
class Course:
    """The outcome of the steps of one job so far, and those that are still to be done.

    Args:
        prepared: what the prepare has found: reported before it changed anything, and once more when
            it was done.
        combined: the result with what only the finish may read.
    """

    prepared: Value | None = None
    combination: Combination | None = None
    combined: Json = field(default_factory=dict)
    is_to_finish: bool = False
    is_to_restore: bool = False


def too_large(step: Combine) -> str:
    """Why the parts of a step cannot travel in one message; "" = they can."""
    size = len(encode(step.payload))
    if size <= COMBINE_BYTES_MAX:
        return ""
    return (
        f"results of {len(step.parts)} parts: {size} bytes, limit {COMBINE_BYTES_MAX} to be combined; "
        "have the function return less of each"
    )
