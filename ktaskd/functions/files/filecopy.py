"""Copies bytes, holes included."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from isal.isal_zlib import crc32, crc32_combine

from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.failures import Failed, target_changed
from ktaskd.functions.memory.node_pages import CountsPages, count_pages
from ktaskd.functions.quanta import BUFFER, QUANTUM, Buffered, cut
from ktaskd.functions.reading import is_resident
from ktaskd.functions.restoring import Spans, Target, grow
from ktaskd.functions.spans import common, gaps, zero_runs
from ktaskd.functions.transfer import NOTHING_WRITTEN, Naming, read_full, require_size
from ktaskd.model.source import F_SEAL_SHRINK

_COPY_REFUSED = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY}
)
"""Errors of copy_file_range for files that it cannot copy; reading and writing may still work.
Source: copy_file_range(2)"""


class Copy(Buffered):
    """file.copy."""

    quantum = QUANTUM

    def prepare(self, context: Context) -> Json:
        """Find the length that dst needs.

        Returns:
            "old_size" and "new_size" of dst, "src_size", and the spans that will change.
        Raises:
            OSError: src and dst are the same file, src is too short, or dst cannot be cut.
        """
        src, dst = context.sources["src"], context.sources["dst"]
        if (src.facts.device, src.facts.inode) == (dst.facts.device, dst.facts.inode):
            raise OSError(errno.EINVAL, 'source "dst": is the same file as "src", wanted another file')
        end = context.span[1]
        require_size(src, "src", end)
        src_size, old_size = src.size(), dst.size()
        if context.whole and old_size > src_size and dst.facts.seals & F_SEAL_SHRINK:
            raise OSError(
                errno.EPERM,
                f'source "dst": is sealed against shrinking and cannot be cut from {old_size} to {src_size} '
                "bytes; name ranges to copy into a part of it",
            )
        new_size = max(old_size, end)
        cut = context.whole and old_size > src_size
        return {
            "old_size": old_size,
            "new_size": new_size,
            "src_size": src_size,
            "by_prepare": [[old_size, new_size]] if new_size > old_size else [],
            "by_finish": [[src_size, old_size]] if cut else [],
        }

    def begin(self, context: Context, prepared: Json) -> None:
        """Extend dst to its new length by a hole; raises OSError if that is not possible."""
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size > old_size:
            grow(context.sources["dst"], "dst", old_size, new_size)

    def finish(self, context: Context, prepared: Json, control: Control) -> None:
        """Give dst the length of src, if all of src was copied.

        Raises:
            OSError: src changed its length meanwhile, so dst is no copy of it.
        """
        dst = context.sources["dst"]
        if not context.whole:
            require_size(dst, "dst", int(prepared["new_size"]))
            return
        size, wanted = context.sources["src"].size(), int(prepared["src_size"])
        if size != wanted or context.span[1] != wanted:
            got = size if size != wanted else context.span[1]
            raise OSError(
                errno.ESTALE,
                f'source "src": changed its length while it was copied, from {wanted} to {got} bytes',
            )
        # dst already has its final length if a worker died right after it had cut it.
        if dst.size() not in (wanted, int(prepared["new_size"])):
            words = f"it is {dst.size()} bytes long instead of {prepared['new_size']}"
            raise target_changed("dst", words)
        if dst.size() > wanted:
            with Naming("dst", "cut", wanted, dst.size()):
                os.ftruncate(dst.fd, wanted)

    def restore(self, context: Context, prepared: Json) -> None:
        """Give dst its old length back, if it still has the one that begin gave it."""
        dst = context.sources["dst"]
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size > old_size and dst.size() == new_size:
            os.ftruncate(dst.fd, old_size)

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Copy [start, end)."""
        src, dst = context.sources["src"], context.sources["dst"]
        target = Target(dst, "dst", self._buffer)
        crc = _Crc() if context.arg.get("checksum") else None
        step = _Step(src, target, self._buffer, crc)
        step.look_for_holes(start, end)
        for first, after in cut(start, end, QUANTUM):
            if control.quantum(first):
                return first, _copied(first - start, crc)
            require_size(src, "src", after)
            require_size(dst, "dst", context.span[1])
            dst_holes = target.holes(first, after)
            # Reported even if there are no holes: it announces the write.
            control.prior(first, after, dst_holes)
            target.touched = first
            try:
                step.copy(first, after, dst_holes)
            except BaseException:
                # Report exactly the bytes that may have changed, so that no others are undone.
                control.quantum(target.touched)
                raise
        control.quantum(end)
        require_size(dst, "dst", context.span[1])
        return end, _copied(end - start, crc)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The bytes copied, and their checksum if requested."""
        crc = _Crc() if context.arg.get("checksum") else None
        for part in parts:
            if crc is not None:
                crc.join(part["crc32"], part["bytes"])
        return _copied(sum(part["bytes"] for part in parts), crc)

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Turn the former holes into holes again.

        Returns:
            All other spans: they were overwritten, and the old bytes are gone.
        """
        return Target(context.sources["dst"], "dst", self._buffer).restore(start, end, holes, control)


class MemCopy(CountsPages, Copy):
    """mem.copy: the same between memory, with the NUMA nodes of dst's pages in the result."""

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Copy [start, end)."""
        reached, _ = super().run(context, start, end, control)
        mapped = context.sources["dst"].write_mapped()
        return reached, count_pages(context, "dst", start, reached) if mapped else None


def _copied(count: int, crc: _Crc | None) -> Json:
    return {"bytes": count, **({"crc32": crc.value} if crc is not None else {})}


class _Crc:
    """The CRC-32 of the copied bytes, ascending; the zeros of holes are not read for it."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, view: memoryview) -> None:
        self.value = crc32(view, self.value)

    def add_zeros(self, count: int) -> None:
        """Add zeros by doubling: the sum of 2n zeros is combined from two sums of n."""
        one, length = crc32(b"\0"), 1
        while count:
            if count & 1:
                self.join(one, length)
            one, length, count = crc32_combine(one, one, length), 2 * length, count >> 1

    def join(self, crc: int, length: int) -> None:
        self.value = crc32_combine(self.value, crc, length)


class _Step:
    """Copies one quantum; its target knows how far it may have changed dst.

    Args:
        crc: gets all bytes that are copied; None = no checksum was requested.
    """

    def __init__(self, src: OpenSource, target: Target, buffer: bytearray, crc: _Crc | None) -> None:
        self.src = src
        self._crc = crc
        self._target = target
        self._buffer = buffer
        self._src_holes: Spans | None = None
        self._src_mapped = False

    def look_for_holes(self, start: int, end: int) -> None:
        """Look for holes once for the whole chunk: each look at a dense memfd walks all its pages."""
        self._src_holes = self.src.holes(start, end)
        self._src_mapped = is_resident(self.src)
        self._target.look_for_holes(start, end)

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
        if self._crc is not None:
            self._crc.add_zeros(end - start)

    def _clear_all(self, spans: Spans) -> None:
        """Clear several spans of dst."""
        for start, end in spans:
            self._target.clear(start, end)

    def _copy_data(self, start: int, end: int) -> None:
        """Copy bytes that are data in src."""
        if self._target.mapped:
            with self._target.view(start, end) as view:
                self._read_into(view, start, end)
                if self._crc is not None:
                    self._crc.add(view)
            return
        if self._crc is None:  # a checksum needs the bytes, which the kernel's copy does not show
            start = self._copy_in_kernel(start, end)
        for first, after in cut(start, end, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                self._read(first, view)
                self._target.write(first, view)

    def _read(self, position: int, view: memoryview) -> None:
        read_full(self.src, "src", position, view)
        if self._crc is not None:
            self._crc.add(view)

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
            self._target.touched = end
            try:
                count = self._target.source.copy_from(self.src, start, end)
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
                        self._target.write(data_start, piece)
                    done = data_end
                self._clear_all(common([(done, after)], dst_data))
