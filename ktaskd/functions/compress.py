"""A file compressed in frames, side by side.

Nobody knows how long a frame becomes before it is compressed. So each has a slot of its own in
the target, as long as it can become at most, where it waits until all are there; the last step
moves them together, ascending, and cuts the rest. What is not written in a slot takes no space.

    | room | slot of frame 0 | slot of frame 1 | ... | lengths, 8 bytes each | frames moved |

The room is one slot and the table that follows the frames: a frame that is moved down never
meets one that was not, nor the lengths.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ktaskd.functions.body import Body, Context, Control, Json, OpenSource
from ktaskd.functions.encoders import Encoder, empty_of, encoder_of, slot_of
from ktaskd.functions.quanta import (
    BUFFER,
    Buffered,
    Naming,
    cut,
    read_full,
    require_size,
    truncated,
    write_full,
)
from ktaskd.functions.restoring import PUNCH_REFUSED
from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.source import F_SEAL_GROW, F_SEAL_SHRINK, SourceKind

_WORD = struct.Struct("<Q")
_TABLE_WORDS = 4096
"""Read or written at one time."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in the target what is, while it is made."""

    size: int
    """Of the source."""
    frame: int

    @property
    def count(self) -> int:
        """Frames."""
        return -(-self.size // self.frame)

    @property
    def slot(self) -> int:
        """Bytes of one slot."""
        return slot_of(self.frame)

    def slot_at(self, index: int) -> int:
        """Where a slot begins."""
        room = self.slot + (self.count + 4) * 16
        return -(-room // 4096) * 4096 + index * self.slot

    @property
    def lengths_at(self) -> int:
        """Where the lengths are."""
        return self.slot_at(self.count)

    @property
    def moved_at(self) -> int:
        """Where it says how many frames were moved."""
        return self.lengths_at + self.count * _WORD.size

    @property
    def end(self) -> int:
        """How long the target is meanwhile."""
        return self.moved_at + _WORD.size

    def size_of(self, index: int) -> int:
        """Bytes of the source in a frame."""
        return min(self.frame, self.size - index * self.frame)


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
        position = start
        length = frames = 0
        while position < end:
            index = position // layout.frame
            written = self._frame(context, layout, encoder, index, control)
            if written is None:
                break
            length, frames = length + written, frames + 1
            position = min(end, position + layout.frame)
        return position, {"bytes": position - start, "compressed": length, "frames": frames}

    def _frame(
        self, context: Context, layout: Layout, encoder: Encoder, index: int, control: Control
    ) -> int | None:
        """Compress one; its length, or None where it was broken off."""
        src, dst = context.sources["src"], context.sources["dst"]
        first, size = index * layout.frame, layout.size_of(index)
        require_size(src, "src", first + size)
        encoder.begin(size)
        at = begin = layout.slot_at(index)
        at += encoder.head
        for piece, after in cut(0, size, encoder.piece):
            if control.quantum(first):
                return None
            with memoryview(self._buffer)[: after - piece] as view:
                read_full(src, "src", first + piece, view)
                at += write_full(dst, "dst", at, encoder.feed(view))
        at += write_full(dst, "dst", at, encoder.end())
        length = at - begin
        write_full(dst, "dst", begin, encoder.head_of(length))
        write_full(dst, "dst", layout.lengths_at + index * _WORD.size, _WORD.pack(length))
        return length

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sums: bytes read, bytes of all frames, frames."""
        return {name: sum(part[name] for part in parts) for name in ("bytes", "compressed", "frames")}

    def finish(self, context: Context, prepared: Json, control: Control) -> None:
        """Move the frames together, write the table, and cut the rest.

        What was done before a death of the worker is not done again: how many are moved is
        written down after each, and where the rest was cut, all is done.

        Raises:
            OSError: the source changed its length meanwhile, or somebody wrote into the target.
        """
        src, dst = context.sources["src"], context.sources["dst"]
        layout = _layout(context, int(prepared["src_size"]))
        if src.size() != layout.size:
            words = f"changed its length while it was compressed, got {src.size()}, wanted {layout.size}"
            raise OSError(errno.ESTALE, f'source "src": {words}')
        if dst.size() < layout.end:
            return
        encoder = encoder_of(context)
        end = self._move_all(dst, layout, control)
        if layout.count == 0:
            end = write_full(dst, "dst", 0, empty_of(encoder))
        entries = ((length, layout.size_of(i)) for i, length in enumerate(_lengths(dst, layout)))
        for piece in _joined(encoder.table(layout.count, entries)):
            end += write_full(dst, "dst", end, piece)
        with Naming("dst", "cut", end, layout.end):
            os.ftruncate(dst.fd, end)

    def _move_all(self, dst: OpenSource, layout: Layout, control: Control) -> int:
        """Move what was not moved; where the last frame ends."""
        moved, at = _read_words(dst, layout.moved_at, 1)[0], 0
        if moved > layout.count:
            raise _written_by_others(f"{moved} frames were moved, wanted at most {layout.count}")
        for index, length in enumerate(_lengths(dst, layout)):
            if index >= moved:
                self._move(dst, layout.slot_at(index), at, length)
                write_full(dst, "dst", layout.moved_at, _WORD.pack(index + 1))
                _free(dst, layout.slot_at(index), layout.slot_at(index + 1))
            at += length
            if control.quantum(index * layout.frame):
                raise OSError(errno.ECANCELED, "broken off before all frames were moved")
        return at

    def _move(self, dst: OpenSource, source: int, target: int, length: int) -> None:
        for first, after in cut(0, length, BUFFER):
            with memoryview(self._buffer)[: after - first] as view:
                read_full(dst, "dst", source + first, view)
                write_full(dst, "dst", target + first, view)


def _layout(context: Context, size: int) -> Layout:
    return Layout(size, int(context.arg["frame"]))


def _lengths(dst: OpenSource, layout: Layout) -> Iterator[int]:
    """The lengths of all frames, ascending; raises OSError for one that cannot be."""
    for first in range(0, layout.count, _TABLE_WORDS):
        count = min(_TABLE_WORDS, layout.count - first)
        for length in _read_words(dst, layout.lengths_at + first * _WORD.size, count):
            if not 0 < length <= layout.slot:
                raise _written_by_others(f"a frame of {length} bytes, wanted 1 to {layout.slot}")
            yield length


def _written_by_others(words: str) -> OSError:
    return OSError(errno.EBADMSG, f'source "dst": somebody has written into it: {words}')


def _free(dst: OpenSource, start: int, end: int) -> None:
    """Give the storage of a slot back that nobody needs any more, where that can be."""
    try:
        dst.punch(start, end)
    except OSError as error:
        if error.errno not in PUNCH_REFUSED:
            raise


def _read_words(dst: OpenSource, at: int, count: int) -> list[int]:
    content = os.pread(dst.fd, count * _WORD.size, at)
    if len(content) < count * _WORD.size:
        raise truncated("dst", at + len(content), at + count * _WORD.size)
    return [word for (word,) in _WORD.iter_unpack(content)]


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same in pieces that are worth a write."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= BUFFER:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)
