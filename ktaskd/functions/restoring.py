"""Writes a source so that an undo can turn former holes into holes again."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ktaskd.functions.body import Control, OpenSource
from ktaskd.functions.quanta import BUFFER, PAGE, UNDO_QUANTUM, cut
from ktaskd.functions.spans import common, gaps, zero_runs
from ktaskd.functions.transfer import UNTOUCHED, Naming, read_full, write_some
from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_GROW, SourceKind

Spans = list[tuple[int, int]]

PUNCH_REFUSED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""Errors of a file system that cannot make holes. Source: fallocate(2)"""

NOTHING_PUNCHED = frozenset({errno.EPERM, errno.EBADF, errno.ETXTBSY})
"""Errors that fallocate checks for before it changes anything. Source: fallocate(2)"""


class Target:
    """Writes one source. `touched` is the position before which it may have changed bytes."""

    def __init__(self, source: OpenSource, role: str, buffer: bytearray) -> None:
        """Keep them.

        Args:
            role: the source's name in errors.
            buffer: BUFFER bytes to read into; others may use it between two calls.
        """
        self.source = source
        self.touched = 0
        self.mapped = source.write_mapped()
        self._role = role
        self._buffer = buffer
        self._holes: Spans | None = None

    def look_for_holes(self, start: int, end: int) -> None:
        """Look for holes once for the whole chunk: each look at a dense memfd walks all its pages."""
        self._holes = self.source.holes(start, end)

    def holes(self, start: int, end: int) -> Spans:
        """The parts of [start, end) that an undo may turn into holes; they read as zeros.

        If the holes of the source are not known, these are blocks of zeros: making holes of
        them changes no byte. If the source cannot be read either, there are none.
        """
        holes = None if self._holes is None else common([(start, end)], self._holes)
        if Access.READ not in self.source.facts.access:
            return holes or []
        if holes is None:
            holes = []
            for first, after in cut(start, end, BUFFER):
                with memoryview(self._buffer)[: after - first] as view:
                    read_full(self.source, self._role, first, view)
                _extend(holes, zero_runs(self._buffer, after - first, first))
        stripped = [self._stripped(*data) for data in gaps(holes, start, end)]
        return gaps([data for data in stripped if data[0] < data[1]], start, end)

    def _stripped(self, start: int, end: int) -> tuple[int, int]:
        """Data without the zeros at the end of its last page, and at its start inside a page.

        Holes are whole pages, but the old end of the source may lie inside a page. The bytes
        after that end did not exist and must not count as data. The same holds for a page in
        which this job has already written the part before `start`.
        """
        first = max(start, (end - 1) // PAGE * PAGE)
        end = first + len(self._read(first, end).rstrip(b"\0"))
        if start % PAGE and start < end:
            stop = min(end, start - start % PAGE + PAGE)
            start = stop - len(self._read(start, stop).lstrip(b"\0"))
        return start, end

    def _read(self, start: int, end: int) -> bytes:
        """Read a small piece of the source."""
        with memoryview(self._buffer)[: end - start] as view:
            read_full(self.source, self._role, start, view)
            return bytes(view)

    def clear(self, start: int, end: int) -> None:
        """Make [start, end) read as zeros, as a hole if possible.

        On hugetlbfs only whole huge pages can be holes, and older kernels do not clear a part
        of one, so zeros are written there.
        """
        if self.source.facts.kind is not SourceKind.HUGE:
            try:
                self.punch("clear", start, end)
                return
            except OSError as error:
                if error.errno not in PUNCH_REFUSED:
                    if error.errno in NOTHING_PUNCHED:
                        self.touched = start
                    raise
        self.write_zeros(start, end)

    def punch(self, doing: str, start: int, end: int) -> None:
        """Make [start, end) a hole; if it raises OSError, `touched` says what may have changed."""
        self.touched = end
        try:
            with Naming(self._role, doing, start, end):
                self.source.punch(start, end)
        except OSError as error:
            if error.errno in UNTOUCHED:
                self.touched = start
            raise

    def write_zeros(self, start: int, end: int) -> None:
        """Write zeros from `start` to `end`."""
        for first, after in cut(start, end, BUFFER):
            self.write(first, memoryview(bytes(after - first)))

    def view(self, start: int, end: int) -> memoryview:
        """[start, end) to be written at once, with all its pages; only for a mapped source."""
        self.touched = end
        with Naming(self._role, "write", start, end):
            self.source.populate(start, end)
            return self.source.view(start, end, write=True)

    def write(self, position: int, view: memoryview) -> None:
        """Write all of `view`."""
        if not self.mapped:
            self.put(position, view)
            return
        with self.view(position, position + len(view)) as target:
            target[:] = view

    def put(self, position: int, view: memoryview) -> None:
        """Write all of `view` without a mapping; not possible on hugetlbfs."""
        end = position + len(view)
        try:
            while position < end:
                self.touched = end
                # One piece at a time, so that it is known how far it got before an error.
                position += write_some(
                    self.source, self._role, position, view[len(view) - (end - position) :]
                )
        except OSError as error:
            if error.errno in UNTOUCHED:
                self.touched = position
            raise

    def restore(
        self, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> list[tuple[int, int]]:
        """Undo: turn the former holes of [start, end) into holes again.

        Returns:
            All other spans: they were overwritten, and the old bytes are gone.
        """
        cleared: Spans = []
        for hole_start, hole_end in holes:
            for first, after in cut(max(hole_start, start), min(hole_end, end), UNDO_QUANTUM):
                try:
                    self.clear(first, after)
                except OSError:
                    continue
                finally:
                    control.quantum(after)
                cleared.append((first, after))
        return gaps(cleared, start, end)


def has_holes(source: OpenSource, end: int) -> bool:
    """Whether some of the bytes that the job wrote from 0 to `end` may have no storage.

    That happens when somebody cuts the file. A file system that turns written zeros into holes
    gives the same picture without a cut.
    """
    holes = source.unallocated(0, end)
    if holes is None and source.facts.kind is SourceKind.MEMORY:
        holes = source.absent(0, end)
    return bool(holes)


def grow(source: OpenSource, role: str, old_size: int, new_size: int) -> None:
    """Make a source longer; raises OSError that says why it is not possible."""
    try:
        os.ftruncate(source.fd, new_size)
    except OSError as error:
        sealed = error.errno == errno.EPERM and source.facts.seals & F_SEAL_GROW
        why = "it is sealed against growing" if sealed else str(error.strerror)
        raise OSError(
            error.errno, f'source "{role}": cannot grow from {old_size} to {new_size} bytes: {why}'
        ) from error


def free_zeros(source: OpenSource, buffer: bytearray, start: int, end: int) -> None:
    """Turn everything in [start, end) that reads as zeros into holes, right after reading it.

    If the source ends at `end` or before, the hole also covers the rest of its last page, since
    a file system frees only whole blocks.

    Args:
        buffer: BUFFER bytes to read into.
    """
    if end >= source.size():
        end = -(-end // PAGE) * PAGE
    for first, after in cut(start, end, BUFFER):
        with memoryview(buffer)[: after - first] as view:
            count = os.preadv(source.fd, [view], first)
        for zero_start, zero_end in zero_runs(buffer, count, first):
            source.punch(zero_start, after if zero_end == first + count else zero_end)


def _extend(runs: Spans, more: Spans) -> None:
    """Append spans that follow; spans that touch become one."""
    if runs and more and runs[-1][1] == more[0][0]:
        runs[-1] = (runs[-1][0], more[0][1])
        more = more[1:]
    runs.extend(more)
