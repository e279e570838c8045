"""Fills memory with one value, and populates it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.memory.node_pages import CountsPages, count_pages
from ktaskd.functions.quanta import BUFFER, QUANTUM, UNDO_QUANTUM, Buffered, cut
from ktaskd.functions.restoring import free_zeros
from ktaskd.functions.transfer import UNTOUCHED, Naming, require_size


class Fill(CountsPages):
    """mem.fill."""

    quantum = QUANTUM

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Set all bytes of [start, end) to one value."""
        source = context.sources["data"]
        require_size(source, "data", end)
        pen = _Pen(source, int(context.arg["value"]))
        reached = self._fill(pen, source, context.span[1], (start, end), control)
        # Bytes written by pwritev do not count as mapped, even if an earlier job mapped them.
        return reached, count_pages(context, "data", start, reached) if source.write_mapped() else None

    def _fill(
        self, pen: _Pen, source: OpenSource, job_end: int, span: tuple[int, int], control: Control
    ) -> int:
        """Fill a span until control stops it."""
        start, end = span
        for first, after in cut(start, end, QUANTUM):
            if control.quantum(first):
                return first
            require_size(source, "data", job_end)
            try:
                with Naming("data", "write", first, after):
                    pen.fill(first, after)
            except BaseException:
                # Report exactly the bytes that may have changed, so that no others are dirty.
                control.quantum(pen.touched)
                raise
        control.quantum(end)
        require_size(source, "data", job_end)
        return end

    def wipe(self) -> None:
        """Forget the buffers of values."""
        _buffer_of.cache_clear()


class _Pen:
    """Fills one quantum. `touched` is the position before which it may have changed bytes."""

    def __init__(self, source: OpenSource, value: int) -> None:
        self.touched = 0
        self._source = source
        self._value = value
        self._fill = self._fill_mapped if source.write_mapped() else self._fill_written

    def fill(self, start: int, end: int) -> None:
        """Set all bytes of [start, end)."""
        self.touched = start
        self._fill(start, end)

    def _fill_mapped(self, start: int, end: int) -> None:
        """Populate the pages, then set them while they are in the cache.

        Populating first took 0.19 s for 512 MiB of new memory and 0.09 s for present memory,
        against 0.25 and 0.18 s when memset faulted page by page. If the mapping has the pages
        already, it costs a tenth more. It also turns a SIGBUS into an errno.
        """
        self._source.populate(start, end)
        with self._source.view(start, end, write=True) as view:
            anchor = ctypes.c_char.from_buffer(view)
            self.touched = end
            ctypes.memset(ctypes.addressof(anchor), self._value, end - start)
            # The view cannot be released while it is exported.
            del anchor

    def _fill_written(self, start: int, end: int) -> None:
        """Write with pwritev from one small buffer that stays in the cache."""
        buffer = _buffer_of(self._value)
        while start < end:
            whole, rest = divmod(end - start, BUFFER)
            pieces = [buffer] * whole + ([buffer[:rest]] if rest else [])
            try:
                start += self._source.write(pieces, start)
            except OSError as error:
                if error.errno not in UNTOUCHED:
                    self.touched = end
                raise
            self.touched = start


@lru_cache(maxsize=2)
def _buffer_of(value: int) -> bytes:
    """A buffer full of one value."""
    return bytes([value]) * BUFFER


class Populate(Buffered, CountsPages):
    """mem.populate."""

    quantum = QUANTUM

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Allocate the pages without changing a byte."""
        source = context.sources["data"]
        require_size(source, "data", end)
        reached = self._populate(source, start, end, control)
        return reached, count_pages(context, "data", start, reached)

    def _populate(self, source: OpenSource, start: int, end: int, control: Control) -> int:
        """Allocate [start, end) until control stops it."""
        for first, after in cut(start, end, QUANTUM):
            if control.quantum(first):
                return first
            with Naming("data", "map", first, after):
                source.view(first, after, write=True).release()  # allocates nothing
            holes = source.holes(first, after)
            if holes is None:
                # A page that is not in memory may be swapped out instead of a hole. The undo
                # frees only pages that read as zeros, so no byte is lost.
                holes = source.absent(first, after)
            if holes:
                control.prior(first, after, holes)
            try:
                with Naming("data", "populate", first, after):
                    source.populate(first, after)
            except OSError:
                # Some pages of this quantum may be allocated now, so the undo has to cover them.
                control.quantum(after)
                raise
        return end

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Free the pages of `holes` that still read as zeros.

        Bytes that somebody wrote since then stay, so no byte changes.
        """
        source = context.sources["data"]
        for hole_start, hole_end in holes:
            for first, after in cut(max(hole_start, start), min(hole_end, end), UNDO_QUANTUM):
                free_zeros(source, self._buffer, first, after)
                control.quantum(after)
        return []
