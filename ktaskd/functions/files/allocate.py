"""Reserves storage of files, and frees it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.quanta import PAGE, UNDO_QUANTUM, Buffered, cut
from ktaskd.functions.restoring import PUNCH_REFUSED, Spans, Target, free_zeros, grow
from ktaskd.functions.spans import gaps
from ktaskd.functions.transfer import Naming, require_size
from ktaskd.model.limits import QUANTUM_BYTES_MAX
from ktaskd.model.source import SourceKind

_REPORTED = 64 << 20
"""Bytes covered by one report of what they hold. Reserving storage is so fast that one report for
each quantum would keep the daemon too busy."""

_KEPT_MAX = 1000
"""Pieces of storage beyond the end of a file that are reserved again after an undo. That many fit
one frame."""

_FAR = 1 << 62
"""A position beyond the end of any file."""


class Allocate(Buffered):
    """file.allocate."""

    quantum = _REPORTED
    """Others may reserve what lies behind it meanwhile, which must not be looked at."""

    def prepare(self, context: Context) -> Json:
        """Find the length that the source needs.

        Returns:
            "old_size", "new_size", "kept": spans with storage beyond the old end; and the spans
            that will change.
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
        """Extend the source to its new length; raises OSError if that is not possible."""
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size > old_size:
            grow(context.sources["data"], "data", old_size, new_size)

    def restore(self, context: Context, prepared: Json) -> None:
        """Give the source its old length back, unless somebody has written beyond it.

        Raises:
            OSError: the source cannot be cut, for example because it is sealed against shrinking.
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
                # Some of this quantum may have storage now, so the undo has to cover it.
                control.quantum(after)
                raise
        return end, None

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Free the parts of `holes` that still read as zeros. No byte changes, so nothing is dirty."""
        source = context.sources["data"]
        block = os.fstatvfs(source.fd).f_frsize
        for hole_start, hole_end in holes:
            for first, after in cut(max(hole_start, start), min(hole_end, end), UNDO_QUANTUM):
                # If the job had only a part of a block, all of that block was a hole.
                self._free(source, first // block * block, -(-after // block) * block)
                control.quantum(after)
        return []

    def _free(self, source: OpenSource, start: int, end: int) -> None:
        """Make holes of the parts of [start, end) that were never written or are zeros."""
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
    """Report which parts of [start, end) have no storage."""
    holes = source.unallocated(start, end)
    if holes is None and source.facts.kind is SourceKind.MEMORY:
        # A page that is not in memory may be swapped out instead of a hole. The undo
        # frees only pages that read as zeros, so no byte is lost.
        holes = source.absent(start, end)
    if holes:
        control.prior(start, end, holes)


def _allocated(source: OpenSource, start: int, end: int) -> Spans | None:
    """The parts of [start, end) with storage; None if that is not known."""
    holes = source.unallocated(start, end)
    return None if holes is None else gaps(holes, start, end)


def _is_unwritten(source: OpenSource, start: int, end: int, kept: Spans) -> bool:
    """Whether [start, end), the new end of a source, seems unwritten.

    Args:
        kept: spans that had storage before; the page that holds `start` always has storage.
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
                # Report exactly the bytes that may have changed, so that no others are dirty.
                control.quantum(target.touched)
                raise
        return end, None


def _punch(target: Target, start: int, end: int) -> None:
    """Make a hole of [start, end). On hugetlbfs only whole pages become holes, the rest zeros."""
    source = target.source
    page = source.facts.page_size if source.facts.kind is SourceKind.HUGE else 1
    first, after = -(-start // page) * page, end // page * page
    if first >= after:
        target.write_zeros(start, end)
        return
    target.write_zeros(start, first)
    target.punch("punch", first, after)
    target.write_zeros(after, end)
