"""Copies one quantum, holes included, in the way that is faster."""

from __future__ import annotations

import errno
from collections.abc import Callable

from isal.isal_zlib import crc32, crc32_combine

from ktaskd.functions.body import OpenSource
from ktaskd.functions.choosing import Fastest
from ktaskd.functions.failures import Failed
from ktaskd.functions.quanta import BUFFER, cut
from ktaskd.functions.reading import is_resident
from ktaskd.functions.restoring import Spans, Target
from ktaskd.functions.spans import common, gaps, zero_runs
from ktaskd.functions.transfer import NOTHING_WRITTEN, Naming, read_full, require_size
from ktaskd.model.source import SourceKind
from ktaskd.model.spans import SpanSet

_COPY_REFUSED = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY}
)
"""Errors of copy_file_range for files that it cannot copy; reading and writing may still work.
Source: copy_file_range(2)"""


_SHARING = frozenset({"btrfs", "xfs", "bcachefs", "ocfs2", "zfs"})
"""File systems on which copy_file_range may share the storage of src instead of copying it."""


class Crc:
    """The CRC-32 of the copied bytes, ascending; the zeros of holes are not read for it."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, view: memoryview) -> None:
        """Add the next bytes."""
        self.value = crc32(view, self.value)

    def add_zeros(self, count: int) -> None:
        """Add zeros by doubling: the sum of 2n zeros is combined from two sums of n."""
        one, length = crc32(b"\0"), 1
        while count:
            if count & 1:
                self.join(one, length)
            one, length, count = crc32_combine(one, one, length), 2 * length, count >> 1

    def join(self, crc: int, length: int) -> None:
        """Add the next `length` bytes by their checksum."""
        self.value = crc32_combine(self.value, crc, length)


_Way = Callable[[int, int], None]


class Step:
    """Copies one quantum; its target knows how far it may have changed dst.

    Args:
        crc: gets all bytes that are copied; None = no checksum was requested.
        fastest: chooses between two ways to copy; None = map dst if it is memory, else the first.
    """

    def __init__(
        self,
        src: OpenSource,
        target: Target,
        buffer: bytearray,
        crc: Crc | None,
        fastest: Fastest | None,
    ) -> None:
        self.src = src
        self.target = target
        self.crc = crc
        self.fastest = fastest
        self.written = SpanSet()
        """Spans that were written to memory without a mapping."""
        self._buffer = buffer
        self._src_holes: Spans | None = None
        self._src_mapped = False

    def look_for_holes(self, start: int, end: int) -> None:
        """Look for holes once for the whole chunk: each look at a dense memfd walks all its pages."""
        self._src_holes = self.src.holes(start, end)
        self._src_mapped = is_resident(self.src)
        self.target.look_for_holes(start, end)

    def copy(self, start: int, end: int, dst_holes: Spans) -> None:
        """Make [start, end) of dst equal to that of src, in ascending order."""
        dst_data = gaps(dst_holes, start, end)
        if self._src_holes is None:
            self._copy_read(start, end, dst_data)
            return
        src_holes = common([(start, end)], self._src_holes)
        for first, after in gaps(src_holes, start, end):
            self._copy_hole(start, first, common(src_holes, dst_data))
            self._copy_data(first, after)
            start = after
        self._copy_hole(start, end, common(src_holes, dst_data))
        # src reads as a hole beyond its end, so check that it has not just become shorter.
        require_size(self.src, "src", end)

    def _copy_hole(self, start: int, end: int, to_clear: Spans) -> None:
        """Copy a hole of src: clear the data that dst has there."""
        self._clear_all(common([(start, end)], to_clear))
        if self.crc is not None:
            self.crc.add_zeros(end - start)

    def _clear_all(self, spans: Spans) -> None:
        """Clear several spans of dst."""
        for start, end in spans:
            self.target.clear(start, end)

    def _copy_data(self, start: int, end: int) -> None:
        """Copy bytes that are data in src, in the way that is faster."""
        if start >= end:
            return
        dst, fastest = self.target.source, self.fastest
        if self.target.mapped:
            huge = dst.facts.kind is SourceKind.HUGE
            if huge or fastest is None or dst.is_populated(start, end):
                self._copy_mapped(start, end)
            elif self._timed(fastest, self._copy_written, self._copy_mapped, (start, end)) == 0:
                self.written.add(start, end)
        elif self.crc is not None:  # a checksum needs the bytes, which the kernel's copy does not show
            self._copy_written(start, end)
        elif fastest is None or dst.facts.file_system in _SHARING:
            self._copy_shared(start, end)
        else:
            self._timed(fastest, self._copy_shared, self._copy_written, (start, end))

    def _timed(self, fastest: Fastest, one: _Way, other: _Way, span: tuple[int, int]) -> int:
        way = fastest.begin()
        (one if way == 0 else other)(*span)
        fastest.end(span[1] - span[0])
        return way

    def _copy_mapped(self, start: int, end: int) -> None:
        """Read into a mapping of dst."""
        with self.target.view(start, end) as view:
            self._read_into(view, start, end)
            if self.crc is not None:
                self.crc.add(view)

    def _copy_shared(self, start: int, end: int) -> None:
        """Let the kernel copy, which may share storage."""
        start = self._copy_in_kernel(start, end)
        if start < end:
            self._copy_written(start, end)

    def _copy_written(self, start: int, end: int) -> None:
        """Write from the pages of src if they are mapped or in the page cache, or from a buffer."""
        data = self._data_of_src(start, end)
        if data is not None:
            with data:
                self._put_from_src(data, start, end)
            return
        for first, after in cut(start, end, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                self._read(first, view)
                self.target.put(first, view)

    def _data_of_src(self, start: int, end: int) -> memoryview | None:
        if not self._src_mapped:
            return self.src.cached(start, end)
        with Naming("src", "read", start, end):
            return self.src.view(start, end, write=False)

    def _put_from_src(self, data: memoryview, start: int, end: int) -> None:
        try:
            if self.crc is not None:
                self.crc.add(data)
            with data[:] as view:
                self.target.put(start, view)
        except OSError as error:
            if error.errno == errno.EFAULT:  # src was cut meanwhile
                require_size(self.src, "src", end)
            raise

    def _read(self, position: int, view: memoryview) -> None:
        read_full(self.src, "src", position, view)
        if self.crc is not None:
            self.crc.add(view)

    def _read_into(self, view: memoryview, start: int, end: int) -> None:
        """Read data of src. From mapping to mapping it is three times as fast as a system call."""
        if self._src_mapped:
            with Naming("src", "read", start, end), self.src.view(start, end, write=False) as data:
                view[:] = data
        else:
            read_full(self.src, "src", start, view)

    def _copy_in_kernel(self, start: int, end: int) -> int:
        """Copy with copy_file_range while that works; returns the position reached."""
        while start < end:
            self.target.touched = end
            try:
                count = self.target.source.copy_from(self.src, start, end)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in _COPY_REFUSED:
                    return start
                # For other errors it is not known which of the two files caused them.
                of_dst = isinstance(error, Failed) or error.errno in NOTHING_WRITTEN
                role = "dst" if of_dst else 'src" or "dst'
                with Naming(role, "copy", start, end):
                    raise
            if count == 0:
                return start
            start += count
        return start

    def _copy_read(self, start: int, end: int, dst_data: Spans) -> None:
        """Copy by reading everything; blocks of zeros in src count as holes."""
        for first, after in cut(start, end, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                self._read(first, view)
                zeros = zero_runs(self._buffer, after - first, first)
                done = first
                for data_start, data_end in gaps(zeros, first, after):
                    self._clear_all(common([(done, data_start)], dst_data))
                    with view[data_start - first : data_end - first] as piece:
                        self.target.write(data_start, piece)
                    done = data_end
                self._clear_all(common([(done, after)], dst_data))
