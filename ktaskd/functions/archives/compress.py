"""Compresses a file in frames, in parallel.

The compressed length of a frame is not known in advance. So each frame has a slot of its own in the
target, long enough for the worst case. When all frames are there, the last step moves them together,
ascending, and cuts off the rest. Unused parts of a slot take no space.

Every process that has the target open can write or cut it meanwhile. So each frame must have the CRC
that its worker recorded in the target, and all CRCs together must match the CRC in the chunks'
results, which are kept outside of the target.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ktaskd.functions.archives.encoders import Encoder, empty_of, encoder_of
from ktaskd.functions.archives.slots import (
    LENGTH_BYTES,
    Layout,
    packed_length,
    read_frames,
    read_moved,
    write_entry,
    write_moved,
    written_by_others,
)
from ktaskd.functions.archives.sums import Sum
from ktaskd.functions.body import Body, Context, Control, Json, OpenSource
from ktaskd.functions.quanta import BUFFER, Buffered, cut
from ktaskd.functions.restoring import PUNCH_REFUSED, has_holes
from ktaskd.functions.transfer import Naming, read_full, require_size, write_full
from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.source import F_SEAL_GROW, F_SEAL_SHRINK, SourceKind


class Written(Body):
    """A body that fills an empty target from a source, all or nothing."""

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Do nothing: restore empties the target."""
        control.quantum(end)
        return []

    def restore(self, context: Context, prepared: Json) -> None:
        """Empty the target."""
        with Naming("dst", "empty", 0, context.sources["dst"].size()):
            os.ftruncate(context.sources["dst"].fd, 0)


def require_empty_target(context: Context) -> None:
    """Raise OSError if the job cannot write all of dst, or could not undo that."""
    src, dst = context.sources["src"], context.sources["dst"]
    if (src.facts.device, src.facts.inode) == (dst.facts.device, dst.facts.inode):
        raise OSError(errno.EINVAL, 'source "dst": is the same file as "src", wanted another file')
    if not context.whole:
        raise OSError(errno.EINVAL, "ranges: wanted none, since the output depends on all of the input")
    if dst.size():
        raise OSError(errno.EEXIST, f'source "dst": is {dst.size()} bytes long, wanted an empty file')
    if dst.facts.seals & (F_SEAL_GROW | F_SEAL_SHRINK):
        words = "is sealed against growing or shrinking, wanted a file that can change its length"
        raise OSError(errno.EPERM, f'source "dst": {words}')
    if dst.facts.kind is SourceKind.HUGE:
        words = "is on hugetlbfs, where files consist of whole huge pages; wanted a file elsewhere"
        raise OSError(errno.EINVAL, f'source "dst": {words}')


@dataclass(slots=True)
class _Written:
    """Length and CRC of consecutive frames, and of their lengths."""

    frames: Sum = field(default_factory=Sum)
    lengths: Sum = field(default_factory=Sum)

    def add(self, frame: Sum) -> None:
        """Add the next frame."""
        self.frames.join(frame)
        self.lengths.add(packed_length(frame))

    def join(self, part: Json) -> None:
        """Add the next frames, from a part of a result."""
        self.frames.join(Sum(part["compressed"], part["_frames_crc"]))
        self.lengths.join(Sum(part["frames"] * LENGTH_BYTES, part["_lengths_crc"]))

    def part(self) -> Json:
        """The fields of a part of a result."""
        return {
            "compressed": self.frames.length,
            "frames": self.lengths.length // LENGTH_BYTES,
            "_frames_crc": self.frames.crc,
            "_lengths_crc": self.lengths.crc,
        }


class Compress(Written, Buffered):
    """file.compress."""

    def quantum_of(self, context: Context) -> int:
        """A frame."""
        return int(context.arg["frame"])

    def prepare(self, context: Context) -> Json:
        """Check arguments and target.

        Returns:
            "src_size", and the spans that will change.
        Raises:
            OSError: the arguments or the target are unsuitable.
        """
        encoder_of(context)
        require_empty_target(context)
        layout = _layout(context, context.span[1])
        if layout.end > POSITION_MAX:
            words = f"is {layout.size} bytes long; no file is long enough for the slots of its frames"
            raise OSError(errno.EFBIG, f'source "src": {words}')
        return {"src_size": layout.size, "by_prepare": [[0, layout.end]], "by_finish": []}

    def begin(self, context: Context, prepared: Json) -> None:
        """Extend the target to hold the slots, which take no space yet."""
        layout = _layout(context, int(prepared["src_size"]))
        with Naming("dst", "extend", 0, layout.end):
            os.ftruncate(context.sources["dst"].fd, layout.end)

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Compress some frames into their slots."""
        layout, encoder = _layout(context, context.span[1]), encoder_of(context)
        position, written = start, _Written()
        while position < end:
            index = position // layout.frame
            frame = self._frame(context, layout, encoder, index, control)
            if frame is None:
                break
            written.add(frame)
            position = min(end, position + layout.frame)
        return position, {"bytes": position - start, **written.part()}

    def _frame(
        self, context: Context, layout: Layout, encoder: Encoder, index: int, control: Control
    ) -> Sum | None:
        """Compress one frame; returns the sum of its bytes, or None if control stopped it."""
        src, dst = context.sources["src"], context.sources["dst"]
        first, size = index * layout.frame, layout.size_of(index)
        require_size(src, "src", first + size)
        encoder.begin(size)
        begin, rest = layout.slot_at(index), Sum()
        for piece, after in cut(0, size, encoder.piece):
            if control.quantum(first):
                return None
            with memoryview(self._buffer)[: after - piece] as view:
                read_full(src, "src", first + piece, view)
                self._append(dst, layout, begin + encoder.head, rest, encoder.feed(view))
        self._append(dst, layout, begin + encoder.head, rest, encoder.end())
        head = encoder.head_of(encoder.head + rest.length)
        write_full(dst, "dst", begin, head)
        frame = Sum().add(head).join(rest)
        write_entry(dst, layout, index, frame)
        return frame

    def _append(self, dst: OpenSource, layout: Layout, at: int, written: Sum, content: bytes) -> None:
        """Append to a slot; raises OSError if the target was cut meanwhile."""
        require_size(dst, "dst", layout.end)
        write_full(dst, "dst", at + written.length, content)
        written.add(content)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sums: bytes read, bytes of all frames, frames; and the CRCs for finish."""
        written = _Written()
        for part in parts:
            written.join(part)
        return {"bytes": sum(part["bytes"] for part in parts), **written.part()}

    def finish(self, context: Context, prepared: Json, control: Control) -> None:
        """Move the frames together, write the table, and cut off the rest.

        If a worker dies here, the next one continues: the number of moved frames is recorded
        after each frame, and once the rest is cut off, everything is done.

        Others may write into the target. So each moved frame must be the one that was written,
        and all frames are read once more if the target has holes at the end.

        Raises:
            OSError: the source changed its length meanwhile, or somebody wrote into the target.
        """
        src, dst = context.sources["src"], context.sources["dst"]
        layout = _layout(context, int(prepared["src_size"]))
        if src.size() != layout.size:
            words = f"changed its length while it was compressed, from {layout.size} to {src.size()} bytes"
            raise OSError(errno.ESTALE, f'source "src": {words}')
        encoder, wanted = encoder_of(context), _Written()
        wanted.join(context.combined)
        end = wanted.frames.length + encoder.table_size(layout.count)
        if layout.count == 0:
            end += len(empty_of(encoder))
        if dst.size() == end:
            self._check_moved(dst, wanted.frames, control)
            return
        self._move_all(dst, layout, wanted, control)
        self._write_table(dst, layout, encoder, wanted.frames.length)
        require_size(dst, "dst", layout.end)
        if has_holes(dst, end):
            self._check_moved(dst, wanted.frames, control)
        with Naming("dst", "cut", end, layout.end):
            os.ftruncate(dst.fd, end)

    def _move_all(self, dst: OpenSource, layout: Layout, wanted: _Written, control: Control) -> None:
        """Move the frames that were not moved, and check that all are as written."""
        require_size(dst, "dst", layout.end)
        moved, found = read_moved(dst, layout), _Written()
        for index, frame in enumerate(read_frames(dst, layout)):
            at = found.frames.length
            found.add(frame)
            if index >= moved:
                require_size(dst, "dst", layout.end)
                self._move(dst, layout.slot_at(index), at, frame)
                write_moved(dst, layout, index + 1)
                _free(dst, layout.slot_at(index), layout.slot_at(index + 1))
            if control.quantum(index * layout.frame):
                raise OSError(errno.ECANCELED, "stopped before all frames were moved")
        if found != wanted:
            raise written_by_others("its frames are not the ones that the job wrote")

    def _move(self, dst: OpenSource, source: int, target: int, frame: Sum) -> None:
        """Move one frame; raises Failed if it is not as its worker wrote it."""
        found = Sum()
        for first, after in cut(0, frame.length, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                read_full(dst, "dst", source + first, view)
                found.add(view)
                write_full(dst, "dst", target + first, view)
        if found != frame:
            raise written_by_others(f"the frame at {source} is not the one that the job wrote")

    def _check_moved(self, dst: OpenSource, wanted: Sum, control: Control) -> None:
        """Read all frames once more: after a death right after the cut, or if somebody made holes."""
        found = Sum()
        for first, after in cut(0, wanted.length, BUFFER):
            control.quantum(0)
            with memoryview(self._buffer)[: after - first] as view:
                read_full(dst, "dst", first, view)
                found.add(view)
        if found != wanted:
            raise written_by_others("its frames are not the ones that the job wrote")

    def _write_table(self, dst: OpenSource, layout: Layout, encoder: Encoder, end: int) -> None:
        """Write the table that follows the frames."""
        if layout.count == 0:
            end += write_full(dst, "dst", end, empty_of(encoder))
        entries = ((frame.length, layout.size_of(i)) for i, frame in enumerate(read_frames(dst, layout)))
        for piece in _joined(encoder.table(layout.count, entries)):
            end += write_full(dst, "dst", end, piece)


def _layout(context: Context, size: int) -> Layout:
    return Layout(size, int(context.arg["frame"]))


def _free(dst: OpenSource, start: int, end: int) -> None:
    """Free the storage of a slot that is no longer needed, if the file system can."""
    try:
        dst.punch(start, end)
    except OSError as error:
        if error.errno not in PUNCH_REFUSED:
            raise


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Gather the pieces into larger ones, so that fewer writes are needed."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= BUFFER:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)
