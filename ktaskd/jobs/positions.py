"""The state of every position of one job. Pure: no worker, no job, no clock.

Each position of the plan is in exactly one of these states:

    waiting   no worker has begun it, or it was given back
    held      a worker holds it
    done      completed
    failed    its function raised an error, and its worker has cleaned up
    lost      its worker died, and it is not run again
    dropped   a slice of an open-ended job that will not be begun

`begin_undo` moves the positions that have to be undone. From then on there are these states as well:

    to undo   completed, or changed by a worker that died
    undoing   in the undo step that is being done
    undone    as it was before the job
    dirty     may differ from before the job

Besides, the books record for positions in any state whether they were holes, whether a dead worker may
have changed them, and whether they were marked dirty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

from ktaskd.jobs.late import late
from ktaskd.model.function import Declaration, Partial
from ktaskd.model.limits import POSITION_MAX, PRIOR_HOLES_MAX, SPANS_LISTED
from ktaskd.model.spans import Span, SpanSet, without
from ktaskd.planner.cursor import Chunk, Cursor
from ktaskd.planner.plan import Plan
from ktaskd.planner.undo import UndoStep, undo_steps

_NO_STEPS: Iterator[UndoStep] = iter(())


@dataclass(frozen=True, slots=True)
class Cut:
    """The spans that a message leaves out: how many beyond the named ones, and the hull of all."""

    omitted: int = 0
    hull: Span | None = None


NOTHING_CUT = Cut()


def cut(spans: SpanSet) -> tuple[SpanSet, Cut]:
    """Return the first spans, as many as a message names, and the count and hull of the others."""
    if len(spans) <= SPANS_LISTED:
        return spans, Cut(0, spans.hull) if spans else NOTHING_CUT
    return SpanSet(spans.first(SPANS_LISTED)), Cut(len(spans) - SPANS_LISTED, spans.hull)


class Positions:
    """The books of one job's positions.

    Args:
        plan: its positions, and how they are cut into chunks.
        declaration: its function's, which decides what happens to incomplete chunks.
        undo: whether the job is undone if it does not succeed.
    """

    completed = 0
    """Number of completed positions; an undo does not change it."""
    undo_at = 0
    """The positions to undo from here on were not given to a worker yet."""
    failed: SpanSet = late(SpanSet)
    lost: SpanSet = late(SpanSet)
    to_undo: SpanSet = late(SpanSet)
    undone: SpanSet = late(SpanSet)
    dirty: SpanSet = late(SpanSet)
    """Positions marked dirty: by a worker, or since they cannot be undone. They may be outside the plan."""
    touched: SpanSet = late(SpanSet)
    """Positions that workers may have changed before they died."""
    holes: SpanSet = late(SpanSet)
    """Holes as they were before the job wrote."""
    reported: SpanSet = late(SpanSet)
    """Positions whose holes were reported. A second report would show our own writes."""
    cut_undone = cut_dirty = NOTHING_CUT
    _steps = _NO_STEPS

    def __init__(self, plan: Plan, declaration: Declaration, *, undo: bool) -> None:
        """Start with every position of the plan waiting."""
        self._waiting = Cursor(plan)
        self._function = declaration
        self._undo = undo
        self.done = SpanSet()

    # -- while the job runs ---------------------------------------------------

    @property
    def left(self) -> int:
        """How many positions wait."""
        return self._waiting.left

    def may_take(self, nid: int, *, lead: bool, has_free: Callable[[int], bool]) -> bool:
        """Whether `take` would give this worker something."""
        return self._waiting.may_take(nid, lead=lead, has_free=has_free)

    def take(self, size: int, nid: int, *, lead: bool, has_free: Callable[[int], bool]) -> Chunk | None:
        """Waiting to held: return a chunk of about `size` positions, as `Cursor.take` does."""
        return self._waiting.take(size, nid, lead=lead, has_free=has_free)

    def complete(self, chunk: Chunk, reached: int) -> None:
        """Held to done: the chunk up to `reached`. Its remainder waits again."""
        if reached > chunk.start:
            self.done.add(chunk.start, reached)
            self.completed += reached - chunk.start
        if reached < chunk.end:
            self._waiting.give_back(chunk, reached, chunk.end)

    def advance(self, lease: Chunk, reached: int) -> Chunk:
        """Held to done: the lease up to `reached`. Return the remainder, which is still held."""
        if reached > lease.start:
            self.done.add(lease.start, reached)
            self.completed += reached - lease.start
        return lease.since(reached)

    def shorten(self, lease: Chunk, end: int) -> Chunk:
        """Held to waiting: the lease from `end` on. Return what is still held."""
        self._waiting.give_back(lease, end, lease.end)
        return lease.until(end)

    def give_back(self, chunk: Chunk) -> None:
        """Held to waiting: the whole chunk."""
        self._waiting.give_back(chunk, chunk.start, chunk.end)

    def close(self) -> None:
        """Waiting to dropped, also for everything that is given back later."""
        self._waiting.close()

    def fail(self, chunk: Chunk, dirty: Iterable[Sequence[int]] = ()) -> None:
        """Held to failed. `dirty` = spans that the chunk's worker could not put back, in any state."""
        self.failed.add(chunk.start, chunk.end)
        self.mark_failure(dirty)

    def lose(self, chunk: Chunk) -> None:
        """Held to lost: its worker died, and the chunk is not run again."""
        self.lost.add(chunk.start, chunk.end)

    def note_touched(self, chunk: Chunk, *, undoing: bool) -> None:
        """Note that a worker died that had begun the chunk.

        Noted even if the chunk is run again, since it may then be cut shorter, or the job may stop before.

        Args:
            undoing: the chunk had failed, and the worker was cleaning it up.
        """
        partial = self._function.partial
        undone_twice = undoing and partial is not Partial.RERUN_SAFE
        if partial is Partial.NONE or undone_twice:
            if self._function.writes_bytes:
                self.dirty.add(chunk.start, chunk.end)
        elif self._function.reports:
            for span in self.reported.intersection(chunk.start, chunk.end):
                self.touched.add(span.start, span.end)
        else:
            self.touched.add(chunk.start, chunk.end)

    def report_prior(
        self, start: int, end: int, holes: Iterable[Sequence[int]], hold: Callable[[int], bool]
    ) -> None:
        """Note what a span held before its worker changed it; the first report counts.

        Args:
            hold: returns whether this many more spans may be remembered. The undo of a span that
                is not remembered reports it as kept.
        """
        known = self.reported.intersection(start, end)
        self.reported.add(start, end)
        # After the first report a worker has written there, so a later report is ignored.
        seen = SpanSet()
        seen.add_all(holes)
        fresh = without(seen, known)
        if len(self.holes) + len(fresh) <= PRIOR_HOLES_MAX and hold(len(fresh)):
            self.holes.add_all(fresh)

    # -- what is named dirty --------------------------------------------------

    def mark_dirty(self, spans: Iterable[Sequence[int]]) -> None:
        """Mark positions dirty, in any state."""
        for start, end in spans:
            self.dirty.add(start, end)

    def mark_failure(self, dirty: Iterable[Sequence[int]]) -> None:
        """Mark dirty what the worker of a failed chunk or step could not put back."""
        self.mark_dirty(dirty)
        if self._undo:
            # That worker saw what dead workers had left, not what was there before the job. The spans of
            # dead workers are undone once more, with the holes that the first of them saw.
            for span in self.touched:
                self.dirty.remove(span.start, span.end)

    @property
    def untouched(self) -> bool:
        """Whether the job is known to have changed nothing."""
        return not (self.done or self.touched or self.dirty)

    # -- the undo -------------------------------------------------------------

    def begin_undo(self) -> None:
        """Done, or changed by dead workers, to "to undo", or to dirty if the job has no undo.

        No worker may hold any position. The positions of a job that only reads stay done.
        """
        if not (self._undo or self._function.writes_bytes):
            return
        if self._undo:
            self.to_undo = changed = self.done
        else:
            changed = self.dirty
            changed.add_all((span.start, span.end) for span in self.done)
        self.done = SpanSet()
        for span in self.touched:
            changed.add(span.start, span.end)
            self.lost.remove(span.start, span.end)
            self.failed.remove(span.start, span.end)
        self._steps = undo_steps(self.to_undo, self.holes)

    def next_undo(self) -> UndoStep | None:
        """To undo to undoing: return the next step, in ascending order; None = none is left."""
        step = next(self._steps, None)
        if step is not None:
            self.undo_at = step.end
        return step

    def put_back(self, step: Span, kept: Iterable[Sequence[int]] = ()) -> None:
        """Undoing to undone, except for spans that the undo could not restore (`kept`), which are dirty."""
        left = SpanSet()
        left.add_all(kept)
        self.dirty.add_all((piece.start, piece.end) for piece in left)
        self.undone.add_all(without([step], left))

    def lose_undo(self, step: Span, reached: int) -> None:
        """Undoing to undone up to `reached`, if that is in the step; the remainder of the step is dirty."""
        reached = min(max(reached, step.start), step.end)
        self.undone.add(step.start, reached)
        self.dirty.add(reached, step.end)

    def give_up_undo(self) -> None:
        """To undo to dirty: no worker will undo what is left."""
        self.dirty.add_all(
            (span.start, span.end) for span in self.to_undo.intersection(self.undo_at, POSITION_MAX)
        )
        self._steps = _NO_STEPS

    # -- the end --------------------------------------------------------------

    def remains(self) -> Positions:
        """Return what is remembered of an ended job: the first undone and dirty spans, and their numbers."""
        if not (self.undone or self.dirty):
            return NOTHING_LEFT
        kept = copy(NOTHING_LEFT)
        kept.undone, kept.cut_undone = cut(self.undone)
        kept.dirty, kept.cut_dirty = cut(self.dirty)
        return kept


NOTHING_LEFT = Positions(Plan((), 0, 1, 1, 1, 1), Declaration("", ""), undo=False)
"""The books of every ended job without undone or dirty positions. Never changed."""
