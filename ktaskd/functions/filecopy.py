"""Copying, holes included."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ktaskd.functions.body import Body, Context, Control, Json, OpenSource
from ktaskd.functions.quanta import (
    BUFFER,
    NOTHING_WRITTEN,
    PAGE,
    QUANTUM,
    UNDO_QUANTUM,
    Naming,
    common,
    cut,
    gaps,
    read_full,
    require_size,
    wipe,
    zero_runs,
)
from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_GROW, F_SEAL_SHRINK, SourceKind

Spans = list[tuple[int, int]]

_COPY_REFUSED = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY}
)
"""copy_file_range cannot do it for these files; reading and writing may.
Source: copy_file_range(2)"""

_PUNCH_REFUSED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class Copy(Body):
    """file.copy."""

    def __init__(self) -> None:
        """Have one buffer for all chunks of this process."""
        self._buffer = bytearray(BUFFER)

    def wipe(self) -> None:
        """Erase the buffer."""
        wipe(self._buffer)

    def prepare(self, context: Context) -> Json:
        """Give dst the length it needs, so that what is new in it is a hole.

        Returns:
            "old_size" and "new_size" of dst, "src_size", and what changes with them.
        Raises:
            OSError: src and dst are one file, src is too short, or dst cannot
                get the length.
        """
        src, dst = context.sources["src"], context.sources["dst"]
        if (src.facts.device, src.facts.inode) == (dst.facts.device, dst.facts.inode):
            raise OSError(errno.EINVAL, 'source "dst": is the same file as "src", wanted another one')
        end = context.span[1]
        require_size(src, "src", end)
        src_size, old_size = src.size(), dst.size()
        if context.whole and old_size > src_size and dst.facts.seals & F_SEAL_SHRINK:
            raise OSError(
                errno.EPERM,
                f'source "dst": {old_size} bytes long and sealed against shrinking, wanted {src_size}; '
                "name ranges to copy into a part of it",
            )
        new_size = max(old_size, end)
        if new_size > old_size:
            _grow(dst, old_size, new_size)
        cut = context.whole and old_size > src_size
        return {
            "old_size": old_size,
            "new_size": new_size,
            "src_size": src_size,
            "by_prepare": [[old_size, new_size]] if new_size > old_size else [],
            "by_finish": [[src_size, old_size]] if cut else [],
        }

    def finish(self, context: Context, prepared: Json, control: Control) -> None:
        """Give dst the length of src, where all of src was copied.

        Raises:
            OSError: src changed its length meanwhile, so this is no copy of it.
        """
        if not context.whole:
            return
        size, wanted = context.sources["src"].size(), int(prepared["src_size"])
        if size != wanted or context.span[1] != wanted:
            got = size if size != wanted else context.span[1]
            raise OSError(
                errno.ESTALE,
                f'source "src": changed its length while it was copied, got {got}, wanted {wanted}',
            )
        dst = context.sources["dst"]
        if dst.size() > wanted:
            with Naming("dst", "cut", wanted, dst.size()):
                os.ftruncate(dst.fd, wanted)

    def restore(self, context: Context, prepared: Json) -> None:
        """Give dst its old length back, if it still has the one that prepare made."""
        dst = context.sources["dst"]
        old_size, new_size = int(prepared["old_size"]), int(prepared["new_size"])
        if new_size > old_size and dst.size() == new_size:
            os.ftruncate(dst.fd, old_size)

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Copy [start, end)."""
        src, dst = context.sources["src"], context.sources["dst"]
        step = _Step(src, dst, self._buffer)
        step.look_for_holes(start, end)
        for first, after in cut(start, end, QUANTUM):
            if control.quantum(first):
                return first, None
            require_size(src, "src", after)
            dst_holes = step.dst_holes(first, after)
            # Also where there are none: it says that a write follows.
            control.prior(first, after, dst_holes)
            step.touched = first
            try:
                step.copy(first, after, dst_holes)
            except BaseException:
                # Not one byte more than may have changed is to be undone.
                control.quantum(step.touched)
                raise
        return end, None

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Make holes again of what was holes.

        Returns:
            All else: it was copied over, and nobody has the old bytes.
        """
        step = _Step(context.sources["src"], context.sources["dst"], self._buffer)
        cleared: Spans = []
        for hole_start, hole_end in holes:
            for first, after in cut(max(hole_start, start), min(hole_end, end), UNDO_QUANTUM):
                try:
                    step.clear(first, after)
                except OSError:
                    continue
                finally:
                    control.quantum(after)
                cleared.append((first, after))
        return gaps(cleared, start, end)


def _grow(dst: OpenSource, old_size: int, new_size: int) -> None:
    """Make dst longer; raises OSError that says why it cannot be."""
    try:
        os.ftruncate(dst.fd, new_size)
    except OSError as error:
        sealed = error.errno == errno.EPERM and dst.facts.seals & F_SEAL_GROW
        why = "sealed against growing" if sealed else error.strerror
        raise OSError(
            error.errno, f'source "dst": {old_size} bytes long and {why}, wanted {new_size}'
        ) from error


class _Step:
    """Copies one quantum, and knows how far it may have changed dst."""

    def __init__(self, src: OpenSource, dst: OpenSource, buffer: bytearray) -> None:
        self.src = src
        self.dst = dst
        self.touched = 0
        self._buffer = buffer
        self._mapped = dst.write_mapped()
        self._src_holes: Spans | None = None
        self._dst_holes: Spans | None = None

    def look_for_holes(self, start: int, end: int) -> None:
        """Ask once for the whole chunk: for a dense memfd each answer walks all its pages."""
        self._src_holes = self.src.holes(start, end)
        self._dst_holes = self.dst.holes(start, end)

    def dst_holes(self, start: int, end: int) -> Spans:
        """What of dst reads as zeros and may be a hole again after an undo.

        Where it cannot be asked, blocks of zeros: making holes of them changes
        no byte. Where it cannot even be read, nothing.
        """
        holes = None if self._dst_holes is None else common([(start, end)], self._dst_holes)
        if Access.READ not in self.dst.facts.access:
            return holes or []
        if holes is None:
            holes = []
            for first, after in cut(start, end, BUFFER):
                with memoryview(self._buffer)[: after - first] as view:
                    read_full(self.dst, "dst", first, view)
                _extend(holes, zero_runs(self._buffer, after - first, first))
        stripped = [self._stripped(*data) for data in gaps(holes, start, end)]
        return gaps([data for data in stripped if data[0] < data[1]], start, end)

    def _stripped(self, start: int, end: int) -> tuple[int, int]:
        """Data without the zeros at the end of its last page, and at the start inside one.

        Holes are whole pages, but the old end of dst may lie inside one: what
        lay behind it was not there, and must not count as data. The same for a
        page of which this job has already copied the part before `start`.
        """
        first = max(start, (end - 1) // PAGE * PAGE)
        end = first + len(self._read_dst(first, end).rstrip(b"\0"))
        if start % PAGE and start < end:
            stop = min(end, start - start % PAGE + PAGE)
            start = stop - len(self._read_dst(start, stop).lstrip(b"\0"))
        return start, end

    def _read_dst(self, start: int, end: int) -> bytes:
        """A small piece of dst."""
        with memoryview(self._buffer)[: end - start] as view:
            read_full(self.dst, "dst", start, view)
            return bytes(view)

    def copy(self, start: int, end: int, dst_holes: Spans) -> None:
        """Make dst's [start, end) equal to src's, ascending."""
        dst_data = gaps(dst_holes, start, end)
        if self._src_holes is None:
            self._copy_read(start, end, dst_data)
            return
        src_holes = common([(start, end)], self._src_holes)
        for first, after in gaps(src_holes, start, end):
            self._clear_all(common([(start, first)], common(src_holes, dst_data)))
            self._copy_data(first, after)
            start = after
        self._clear_all(common([(start, end)], common(src_holes, dst_data)))
        # Beyond its end src is a hole as well; see that it did not just end.
        require_size(self.src, "src", end)

    def clear(self, start: int, end: int) -> None:
        """Make [start, end) of dst read as zeros, a hole where that can be.

        On hugetlbfs only whole huge pages are holes, and older kernels leave
        the parts of one as they are, so zeros are written there.
        """
        self.touched = end
        if self.dst.facts.kind is not SourceKind.HUGE:
            try:
                with Naming("dst", "clear", start, end):
                    self.dst.punch(start, end)
                return
            except OSError as error:
                if error.errno not in _PUNCH_REFUSED:
                    raise
        for first, after in cut(start, end, BUFFER):
            self._write(first, memoryview(bytes(after - first)))

    def _clear_all(self, spans: Spans) -> None:
        """Clear several."""
        for start, end in spans:
            self.clear(start, end)

    def _copy_data(self, start: int, end: int) -> None:
        """Copy bytes that are no hole in src."""
        if self._mapped:
            self.touched = end
            with Naming("dst", "write", start, end):
                self.dst.populate(start, end)
                view = self.dst.view(start, end, write=True)
            with view:
                read_full(self.src, "src", start, view)
            return
        start = self._copy_in_kernel(start, end)
        for first, after in cut(start, end, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                read_full(self.src, "src", first, view)
                self._write(first, view)

    def _copy_in_kernel(self, start: int, end: int) -> int:
        """Copy by copy_file_range, as far as that goes; returns the position reached."""
        while start < end:
            self.touched = end
            try:
                count = os.copy_file_range(self.src.fd, self.dst.fd, end - start, start, start)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in _COPY_REFUSED:
                    return start
                # What else it may be, it does not say of which of the two.
                role = "dst" if error.errno in NOTHING_WRITTEN else 'src" or "dst'
                with Naming(role, "copy", start, end):
                    raise
            if count == 0:
                return start
            start += count
        return start

    def _copy_read(self, start: int, end: int, dst_data: Spans) -> None:
        """Copy by reading everything; blocks of zeros in src are taken for holes."""
        for first, after in cut(start, end, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                read_full(self.src, "src", first, view)
                zeros = zero_runs(self._buffer, after - first, first)
                done = first
                for data_start, data_end in gaps(zeros, first, after):
                    self._clear_all(common([(done, data_start)], dst_data))
                    with view[data_start - first : data_end - first] as piece:
                        self._write(data_start, piece)
                    done = data_end
                self._clear_all(common([(done, after)], dst_data))

    def _write(self, position: int, view: memoryview) -> None:
        """Write all of `view` to dst."""
        end = position + len(view)
        self.touched = end
        if self._mapped:
            with Naming("dst", "write", position, end):
                self.dst.populate(position, end)
                target = self.dst.view(position, end, write=True)
            with target:
                target[:] = view
            return
        done = 0
        while done < len(view):
            with view[done:] as rest, Naming("dst", "write", position + done, end):
                done += os.pwritev(self.dst.fd, [rest], position + done)


def _extend(runs: Spans, more: Spans) -> None:
    """Append spans that follow, as one where they touch."""
    if runs and more and runs[-1][1] == more[0][0]:
        runs[-1] = (runs[-1][0], more[0][1])
        more = more[1:]
    runs.extend(more)
