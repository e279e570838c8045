"""Reads data into the page cache ahead of its use, or drops it from there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.quanta import QUANTUM, READ_BUFFER, Buffered, cut
from ktaskd.functions.reading import LONG_ITEMS_PER_PART, run_each
from ktaskd.functions.spans import gaps
from ktaskd.functions.transfer import Naming, read_full, require_size
from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.source import SourceKind

_AHEAD = 128 << 10
"""Bytes of one request: of a larger one, the kernel reads only its read-ahead window, which is
128 KiB by default."""

_COUNTS = ("bytes", "skipped", "resident_before", "resident_after")


@dataclass(frozen=True, slots=True)
class _Input:
    """The input of one pass.

    Args:
        role: the name of the source in errors.
        limit: position beyond which nothing is read.
        item: position to report instead of the byte that was reached; None = report bytes.
    """

    source: OpenSource
    role: str
    limit: int
    item: int | None = None


class Warm(Buffered):
    """file.warm."""

    quantum = QUANTUM

    def __init__(self) -> None:
        """Allocate a buffer for bytes that are read and thrown away."""
        super().__init__(READ_BUFFER)

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Read or drop a span of the source, or a run of items."""
        if context.items:
            return run_each(
                (start, end),
                control,
                lambda position: self._item(context, position, control),
                LONG_ITEMS_PER_PART,
            )
        source = context.sources["data"]
        limit = context.span[0] + _window(context, source)
        return self._pass(context, _Input(source, "data", limit), start, end, control)

    def _item(self, context: Context, position: int, control: Control) -> Json | None:
        source = context.items[position]
        size, limit = source.size(), _window(context, source)
        role = f"items[{position}]"
        reached, result = self._pass(context, _Input(source, role, limit, position), 0, size, control)
        return result if reached == size else None

    def _pass(
        self, context: Context, given: _Input, start: int, end: int, control: Control
    ) -> tuple[int, Json]:
        """Read or drop [start, end), until control stops it."""
        source, role, limit = given.source, given.role, given.limit
        require_size(source, role, end)
        drop = bool(context.arg["drop"])
        reached = end
        before: int | None = 0
        for first, after in cut(start, end, QUANTUM):
            if control.quantum(first if given.item is None else given.item):
                reached = first
                break
            # Counted for each quantum, since control may stop it at any of them.
            resident = source.resident(first, after)
            before = _sum([before, resident])
            if drop:
                with Naming(role, "drop", first, after):
                    os.posix_fadvise(source.fd, first, after - first, os.POSIX_FADV_DONTNEED)
            elif first < limit:
                # Resident pages are read as well, which makes them among the last to be evicted.
                self._fill(source, role, first, min(after, limit), ask=resident != after - first)
        read_up_to = reached if drop else min(reached, max(limit, start))
        return reached, {
            "bytes": read_up_to - start,
            "skipped": reached - read_up_to,
            "resident_before": before,
            "resident_after": source.resident(start, reached),
        }

    def _fill(self, source: OpenSource, role: str, start: int, end: int, *, ask: bool) -> None:
        """Bring the data of [start, end) into memory.

        Args:
            ask: request all of it from the disk before the first byte is read.
        """
        for first, after in gaps(source.holes(start, end) or [], start, end):
            if ask and source.facts.kind is SourceKind.FILE:
                _ask_for(source, role, first, after)
            for piece, stop in cut(first, after, READ_BUFFER):
                with memoryview(self._buffer)[: stop - piece] as view:
                    read_full(source, role, piece, view)
        # A source reads as a hole beyond its end, so check that it has not just become shorter.
        require_size(source, role, end)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sums; without parts, zeros."""
        return {name: _sum([part[name] for part in parts]) for name in _COUNTS}


def _ask_for(source: OpenSource, role: str, start: int, end: int) -> None:
    """Request all of [start, end) from the disk, and not one page more.

    Without this, the kernel's read-ahead would go beyond the end of the chunk, and the next chunk
    would count those pages as resident before.
    """
    for first, after in cut(start, end, _AHEAD):
        with Naming(role, "read", first, after):
            os.posix_fadvise(source.fd, first, after - first, os.POSIX_FADV_WILLNEED)


def _window(context: Context, source: OpenSource) -> int:
    """Bytes that may be read; no limit if the available memory is not known."""
    asked = int(context.arg["window"])
    if asked:
        return asked
    room = source.cache_room()
    return POSITION_MAX if room is None else room // 4 * 3


def _sum(counts: Sequence[int | None]) -> int | None:
    """The sum; None if one of the counts is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
