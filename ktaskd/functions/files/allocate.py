"""Storage of files: reserved, and given back."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.quanta import (
    PAGE,
    QUANTUM_BYTES_MAX,
    UNDO_QUANTUM,
    Buffered,
    Naming,
    cut,
    gaps,
    require_size,
)
from ktaskd.functions.restoring import PUNCH_REFUSED, Spans, Target, free_zeros, grow
from ktaskd.model.source import SourceKind

_REPORTED = 64 << 20
"""Told of before it is changed, at one time: to reserve storage is so fast that the daemon
would have too much to do with one report for each quantum."""

_KEPT_MAX = 1000
"""Pieces of storage beyond the end of a file that are reserved again after an undo; encoded
they stay below one frame."""

_FAR = 1 << 62
"""Beyond the end of any file."""


class Allocate(Buffered):
    """file.allocate."""

    def prepare(self, context: Context) -> Json:
        """See which length the source needs.

        Returns:
            "old_size", "new_size", "kept": what had storage beyond the old end, and
            what changes with them.
        """
        source = context.sources["data"]
        old_size = source.size()
        new_size = max(old_size, context.span[1])
        grows = new_size > old_size
        kept = _allocated(source, old_size, _FAR) if grows else None
        return {
            "old_size": old_size,
            "new_size": new_size,
            "kept": (kept or [])[:_KEPT_MAX],
            "by_prepare": [[old_size, new_size]] if grows else [],
            "by_finish": [],
        }

    def begin(self, context: Context, prepared: Json) -> None:
        """Give the source its length; raises OSError where it cannot be had."""
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size > old_size:
            grow(context.sources["data"], "data", old_size, new_size)

    def restore(self, context: Context, prepared: Json) -> None:
        """Give the source its old length back, unless there is something beyond it now.

        Raises:
            OSError: it cannot be cut, as what is sealed against shrinking.
        """
        source = context.sources["data"]
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size == old_size or source.size() != new_size:
            return
        kept: Spans = [(first, after) for first, after in prepared["kept"]]
        if not _is_unwritten(source, old_size, new_size, kept):
            return
        with Naming("data", "cut", old_size, new_size):
            os.ftruncate(source.fd, old_size)
        for first, after in kept:
            source.allocate(first, after)

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Reserve storage for [start, end)."""
        source = context.sources["data"]
        require_size(source, "data", end)
        reported = start
        for first, after in cut(start, end, QUANTUM_BYTES_MAX):
            if control.quantum(first):
                return first, None
            if first >= reported:
                reported = min(end, first - first % _REPORTED + _REPORTED)
                _report(source, first, reported, control)
            try:
                with Naming("data", "allocate", first, after):
                    source.allocate(first, after)
            except OSError:
                # Some of this quantum may have storage now: let undo see it.
                control.quantum(after)
                raise
        return end, None

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Free what of `holes` still reads as zeros; no byte is different, so nothing is dirty."""
        source = context.sources["data"]
        block = os.fstatvfs(source.fd).f_frsize
        for hole_start, hole_end in holes:
            for first, after in cut(max(hole_start, start), min(hole_end, end), UNDO_QUANTUM):
                # A block of which the job had only a part was a hole as a whole.
                self._free(source, first // block * block, -(-after // block) * block)
                control.quantum(after)
        return []

    def _free(self, source: OpenSource, start: int, end: int) -> None:
        """Make a hole of what was never written in [start, end), and of what is zeros."""
        never_written = source.holes(start, end) or []
        try:
            for first, after in never_written:
                source.punch(first, after)
            for first, after in gaps(never_written, start, end):
                free_zeros(source, self._buffer, first, after)
        except OSError as error:
            if error.errno not in PUNCH_REFUSED:
                raise


def _report(source: OpenSource, start: int, end: int, control: Control) -> None:
    """Tell what has no storage in [start, end)."""
    holes = source.unallocated(start, end)
    if holes is None and source.facts.kind is SourceKind.MEMORY:
        # A page that is not in memory may be swapped out instead of a hole; undo
        # frees only what reads as zeros, so no byte is lost.
        holes = source.absent(start, end)
    if holes:
        control.prior(start, end, holes)


def _allocated(source: OpenSource, start: int, end: int) -> Spans | None:
    """What has storage in [start, end); None where it cannot be known."""
    holes = source.unallocated(start, end)
    return None if holes is None else gaps(holes, start, end)


def _is_unwritten(source: OpenSource, start: int, end: int, kept: Spans) -> bool:
    """Whether nobody has written to [start, end), the new end of a source, as far as can be known.

    Args:
        kept: what had storage before; the page in which `start` lies is there anyway.
    """
    page_end = min(end, -(-start // PAGE) * PAGE)
    if any(os.pread(source.fd, page_end - start, start)):
        return False
    written = _allocated(source, page_end, end) or []
    return not any(gaps(kept, first, after) for first, after in written)


class Punch(Buffered):
    """file.punch."""

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Make a hole of [start, end)."""
        source = context.sources["data"]
        require_size(source, "data", end)
        target = Target(source, "data", self._buffer)
        for first, after in cut(start, end, QUANTUM_BYTES_MAX):
            if control.quantum(first):
                return first, None
            target.touched = first
            try:
                _punch(target, first, after)
            except BaseException:
                # Not one byte more than may have changed is dirty.
                control.quantum(target.touched)
                raise
        return end, None


def _punch(target: Target, start: int, end: int) -> None:
    """Make a hole of [start, end); on hugetlbfs of whole pages, and zeros of the rest."""
    source = target.source
    page = source.facts.page_size if source.facts.kind is SourceKind.HUGE else 1
    first, after = -(-start // page) * page, end // page * page
    if first >= after:
        target.write_zeros(start, end)
        return
    target.write_zeros(start, first)
    target.punch("punch", first, after)
    target.write_zeros(after, end)
