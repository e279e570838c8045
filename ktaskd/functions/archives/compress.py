"""A file compressed in frames, side by side.

Nobody knows how long a frame becomes before it is compressed. So each has a slot of its own in
the target, as long as it can become at most, where it waits until all are there; the last step
moves them together, ascending, and cuts the rest. What is not written in a slot takes no space.

Anybody who has the target can write it or cut it meanwhile. So what is moved has to have the CRC
that its worker wrote down, and all CRCs together that of the chunks' results, which do not lie in it.
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
from ktaskd.functions.quanta import (
    BUFFER,
    Buffered,
    Naming,
    cut,
    read_full,
    require_size,
    write_full,
)
from ktaskd.functions.restoring import PUNCH_REFUSED, has_holes
from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.source import F_SEAL_GROW, F_SEAL_SHRINK, SourceKind


class Written(Body):
    """A body that makes an empty target from a source, all or nothing."""

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Nothing is left to put back: restore empties the target."""
        control.quantum(end)
        return []

    def restore(self, context: Context, prepared: Json) -> None:
        """Empty the target again."""
        with Naming("dst", "empty", 0, context.sources["dst"].size()):
            os.ftruncate(context.sources["dst"].fd, 0)


def require_empty_target(context: Context) -> None:
    """Raise OSError where the job cannot write all of dst anew, or undo that."""
    src, dst = context.sources["src"], context.sources["dst"]
    if (src.facts.device, src.facts.inode) == (dst.facts.device, dst.facts.inode):
        raise OSError(errno.EINVAL, 'source "dst": is the same file as "src", wanted another one')
    if not context.whole:
        raise OSError(errno.EINVAL, "ranges: got some, wanted none: the output depends on all of the input")
    if dst.size():
        raise OSError(errno.EEXIST, f'source "dst": {dst.size()} bytes long, wanted an empty one')
    if dst.facts.seals & (F_SEAL_GROW | F_SEAL_SHRINK):
        words = "sealed against growing or shrinking, wanted one that gets the length of the output"
        raise OSError(errno.EPERM, f'source "dst": {words}')
    if dst.facts.kind is SourceKind.HUGE:
        raise OSError(errno.EINVAL, 'source "dst": on hugetlbfs, whose files have whole huge pages only')


@dataclass(slots=True)
class _Written:
    """What was written of some frames that follow each other."""

    frames: Sum = field(default_factory=Sum)
    lengths: Sum = field(default_factory=Sum)

    def add(self, frame: Sum) -> None:
        """The next one."""
        self.frames.join(frame)
        self.lengths.add(packed_length(frame))

    def join(self, part: Json) -> None:
        """What a part has of the next ones."""
        self.frames.join(Sum(part["compressed"], part["_frames_crc"]))
        self.lengths.join(Sum(part["frames"] * LENGTH_BYTES, part["_lengths_crc"]))

    def part(self) -> Json:
        """As a part of a result."""
        return {
            "compressed": self.frames.length,
            "frames": self.lengths.length // LENGTH_BYTES,
            "_frames_crc": self.frames.crc,
            "_lengths_crc": self.lengths.crc,
        }


class Compress(Written, Buffered):
    """file.compress."""

    def prepare(self, context: Context) -> Json:
        """See that it can be done.

        Returns:
            "src_size", and what changes.
        Raises:
            OSError: the arguments or the target will not do.
        """
        encoder_of(context)
        require_empty_target(context)
        layout = _layout(context, context.span[1])
        if layout.end > POSITION_MAX:
            words = f"{layout.size} bytes long, whose slots no file is long enough for"
            raise OSError(errno.EFBIG, f'source "src": {words}')
        return {"src_size": layout.size, "by_prepare": [[0, layout.end]], "by_finish": []}

    def begin(self, context: Context, prepared: Json) -> None:
        """Make room for the slots, which take no space yet."""
        layout = _layout(context, int(prepared["src_size"]))
        with Naming("dst", "reach", 0, layout.end):
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
        """Compress one; the sum of its bytes, or None where it was broken off."""
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
        """Write what follows in a slot; raises OSError where the target was cut meanwhile."""
        require_size(dst, "dst", layout.end)
        write_full(dst, "dst", at + written.length, content)
        written.add(content)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sums: bytes read, bytes of all frames, frames; and by what they are known again."""
        written = _Written()
        for part in parts:
            written.join(part)
        return {"bytes": sum(part["bytes"] for part in parts), **written.part()}

    def finish(self, context: Context, prepared: Json, control: Control) -> None:
        """Move the frames together, write the table, and cut the rest.

        What was done before a death of the worker is not done again: how many are moved is
        written down after each, and where the rest was cut, all is done.

        The target may be written by anybody who has it. So what is moved has to be what was
        written, and all is read once more where the target has holes in the end.

        Raises:
            OSError: the source changed its length meanwhile, or somebody wrote into the target.
        """
        src, dst = context.sources["src"], context.sources["dst"]
        layout = _layout(context, int(prepared["src_size"]))
        if src.size() != layout.size:
            words = f"changed its length while it was compressed, got {src.size()}, wanted {layout.size}"
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
        """Move what was not moved, and see that each is what was written."""
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
                raise OSError(errno.ECANCELED, "broken off before all frames were moved")
        if found != wanted:
            raise written_by_others("its frames are not those that the job wrote")

    def _move(self, dst: OpenSource, source: int, target: int, frame: Sum) -> None:
        """Move one; raises Failed where it was not what its worker wrote."""
        found = Sum()
        for first, after in cut(0, frame.length, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                read_full(dst, "dst", source + first, view)
                found.add(view)
                write_full(dst, "dst", target + first, view)
        if found != frame:
            raise written_by_others(f"the frame at {source} is not the one that the job wrote")

    def _check_moved(self, dst: OpenSource, wanted: Sum, control: Control) -> None:
        """Read all frames once more, where a worker died right after the cut, or somebody made holes."""
        found = Sum()
        for first, after in cut(0, wanted.length, BUFFER):
            control.quantum(0)
            with memoryview(self._buffer)[: after - first] as view:
                read_full(dst, "dst", first, view)
                found.add(view)
        if found != wanted:
            raise written_by_others("its frames are not those that the job wrote")

    def _write_table(self, dst: OpenSource, layout: Layout, encoder: Encoder, end: int) -> None:
        """Write what follows the frames."""
        if layout.count == 0:
            end += write_full(dst, "dst", end, empty_of(encoder))
        entries = ((frame.length, layout.size_of(i)) for i, frame in enumerate(read_frames(dst, layout)))
        for piece in _joined(encoder.table(layout.count, entries)):
            end += write_full(dst, "dst", end, piece)


def _layout(context: Context, size: int) -> Layout:
    return Layout(size, int(context.arg["frame"]))


def _free(dst: OpenSource, start: int, end: int) -> None:
    """Give the storage of a slot back that nobody needs any more, where that can be."""
    try:
        dst.punch(start, end)
    except OSError as error:
        if error.errno not in PUNCH_REFUSED:
            raise


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same in pieces that are worth a write."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= BUFFER:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)
