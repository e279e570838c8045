"""Pickles whose large parts travel in shared memory instead of through a socket.

Large are at least LARGE_BYTES: buffers that pickle protocol 5 keeps out of the pickle (arrays), and
long pieces of the pickle itself (bytes, bytearray, str). All large parts of a value are in one
segment, except those that an earlier one holds already (`Store`). They are copied while the value is
pickled, so that nothing that happens afterwards is seen.
"""

from __future__ import annotations

import pickle
import resource
import struct
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ktask.v1 import code
from ktask.v1.segments import Segment, address_of

LARGE_BYTES = 1 << 20
"""From this size on a part travels in shared memory."""

SEGMENTS_MAX = 16
"""Segments of one parcel; their descriptors travel in one message. The kernel admits 253."""

_OPEN_MAX = 128
"""Segments of a store that exist at the same time: each has a descriptor."""
_DESCRIPTORS_SHARE = 8
"""Only one in so many descriptors that this process may have is for them: it needs others for its workers."""

_NUMBERS = frozenset({int, float, bool, complex, type(None)})
_STRINGS = frozenset({str, bytes})
_PLAIN_BYTES = 1000

_COUNT = struct.Struct("<I")
_PART = struct.Struct("<iQQ?")
_Part = tuple[int, int, int, bool]
"""Number of a segment, offset and length in it, whether its receiver may only read it."""
_INLINE = -1
"""The number that stands for the small parts."""


class ParcelInvalid(Exception):
    """The other side described a parcel that it did not send."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A pickled value.

    Args:
        inline: the small parts of the pickle.
        table: how the pickle and its buffers are put together; empty = `inline` is all.
        segments: what the table's numbers refer to.
    """

    inline: bytes | memoryview
    table: bytes = b""
    segments: tuple[Segment, ...] = ()

    def load(self) -> Any:
        """Return the value.

        Raises:
            ParcelInvalid: the table refers to something that is not there.
            Exception: whatever unpickling raises.
        """
        if not self.table:
            return pickle.loads(self.inline)
        pieces, buffers = self._parts()
        if len(pieces) == 1:
            return pickle.loads(pieces[0], buffers=buffers)
        return pickle.Unpickler(_Pieces(pieces), buffers=buffers).load()

    def _parts(self) -> tuple[list[memoryview], list[memoryview]]:
        sources = [*(segment.mapped() for segment in self.segments), memoryview(self.inline)]
        (count,) = _COUNT.unpack_from(self.table)
        found = []
        for number, start, length, readonly in _PART.iter_unpack(self.table[_COUNT.size :]):
            if not _INLINE <= number < len(self.segments) or start + length > len(sources[number]):
                raise ParcelInvalid(f"parcel: no bytes [{start}, {start + length}) in segment {number}")
            part = sources[number][start : start + length]
            found.append(part.toreadonly() if readonly else part)
        return found[:count], found[count:]


class Store:
    """The segments of a program's parcels that still exist. Thread-safe.

    Data that a segment holds is not copied into another one. The bytes are compared each time, so
    that a change in between is seen, whoever made it; that takes less than half as long as a copy.
    """

    def __init__(self) -> None:
        """Empty."""
        self._by_data: weakref.WeakValueDictionary[tuple[int, int], Segment] = weakref.WeakValueDictionary()
        self._all: weakref.WeakSet[Segment] = weakref.WeakSet()

    def find(self, data: memoryview) -> tuple[Segment, int] | None:
        """Segment and offset of these bytes, if they were copied from the same address; raises OSError."""
        key = _key(data)
        segment = self._by_data.get(key)
        if segment is None or not segment.holds(data, segment.offsets[key]):
            return None
        return segment, segment.offsets[key]

    def note(self, data: memoryview, segment: Segment, offset: int) -> None:
        """Remember where data was copied to."""
        key = _key(data)
        segment.offsets[key] = offset
        self._by_data[key] = segment
        self._all.add(segment)

    @property
    def is_full(self) -> bool:
        """Whether there are as many segments as there may be."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return len(self._all) >= min(_OPEN_MAX, limit // _DESCRIPTORS_SHARE)


def _key(data: memoryview) -> tuple[int, int]:
    return address_of(data), len(data)


def dump(value: Any, store: Store | None = None) -> Parcel:
    """Pickle a value as `code.dumps` does; raises what pickling raises.

    Args:
        store: where large parts may be already; None = nowhere.
    """
    if _is_plain(value) or (type(value) is tuple and all(map(_is_plain, value))):
        return Parcel(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    builder = _Builder(store)
    code.pickler()(builder, pickle.HIGHEST_PROTOCOL, buffer_callback=builder.take_buffer).dump(value)
    return builder.finish()


def _is_plain(value: Any) -> bool:
    """Whether a value is small and needs no pickler of ours: most items of `map` are numbers or names."""
    kind = type(value)
    return kind in _NUMBERS or (kind in _STRINGS and len(value) < _PLAIN_BYTES)


class _Builder:
    """The file that a pickler writes to, and its callback for buffers.

    A part that cannot be kept in a segment, since there is no memory or no descriptor, goes into the
    pickle like a small one.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._inline: list[bytes] = []
        self._inline_bytes = 0
        self._stream: list[_Part] = []
        self._buffers: list[_Part] = []
        self._segments: list[Segment] = []
        self._own: Segment | None = None

    def write(self, piece: bytes | bytearray | pickle.PickleBuffer) -> int:
        """Take the next piece of the pickle."""
        size = len(piece) if isinstance(piece, bytes) else memoryview(piece).nbytes
        part = self._kept(_flat(piece)) if size >= LARGE_BYTES else None
        if part is None:
            part = _INLINE, self._inline_bytes, size, False
            self._inline.append(piece if isinstance(piece, bytes) else bytes(_flat(piece)))
            self._inline_bytes += size
        self._stream.append(part)
        return size

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer; returns whether it belongs into the pickle instead."""
        try:
            data = buffer.raw()
        except BufferError:
            return True  # not contiguous: pickling it raises
        with data:
            part = self._kept(data) if data.nbytes >= LARGE_BYTES else None
        if part is not None:
            self._buffers.append(part)
        return part is None

    def finish(self) -> Parcel:
        """Everything that was taken."""
        inline = b"".join(self._inline)
        whole = self._kept(memoryview(inline)) if len(inline) >= LARGE_BYTES else None
        if whole is not None:
            self._stream, inline = [_within(whole, part) for part in self._stream], b""
        if not self._segments:
            return Parcel(inline)
        if self._own is not None:
            self._own.seal()
        parts = [*self._stream, *self._buffers]
        table = _COUNT.pack(len(self._stream)) + b"".join(_PART.pack(*part) for part in parts)
        return Parcel(inline, table, tuple(self._segments))

    def _kept(self, data: memoryview) -> _Part | None:
        """The part that stands for large data, found or copied; None = it cannot be kept."""
        try:
            segment, offset = self._found(data) or self._copied(data) or (None, 0)
        except OSError:
            return None
        return None if segment is None else (self._segments.index(segment), offset, len(data), data.readonly)

    def _found(self, data: memoryview) -> tuple[Segment, int] | None:
        found = self._store.find(data) if self._store is not None else None
        if found is None:
            return None
        if found[0] not in self._segments:
            if len(self._segments) >= SEGMENTS_MAX - 1:
                return None  # a place is left for a segment of its own
            self._segments.append(found[0])
        return found

    def _copied(self, data: memoryview) -> tuple[Segment, int] | None:
        if self._own is None and self._store is not None and self._store.is_full:
            return None
        own = self._own or Segment.empty()
        offset = own.append(data)
        if self._own is None:
            self._own = own
            self._segments.append(own)
        if self._store is not None:
            self._store.note(data, own, offset)
        return own, offset


def _flat(piece: bytes | bytearray | pickle.PickleBuffer) -> memoryview:
    return piece.raw() if isinstance(piece, pickle.PickleBuffer) else memoryview(piece)


def _within(whole: _Part, part: _Part) -> _Part:
    """A part of the inline bytes, once all of these are in a segment."""
    number, offset, length, readonly = part
    return part if number != _INLINE else (whole[0], whole[1] + offset, length, readonly)


class _Pieces:
    """A file for an unpickler, over the pieces of a pickle."""

    def __init__(self, pieces: Iterable[memoryview]) -> None:
        self._pieces = deque(pieces)

    def readinto(self, target: Any) -> int:
        """Fill a buffer as far as there are bytes; returns how many."""
        done = 0
        with memoryview(target).cast("B") as view:
            while done < len(view) and self._pieces:
                taken = self._pieces[0][: len(view) - done]
                view[done : done + len(taken)] = taken
                done += len(taken)
                self._pieces[0] = self._pieces[0][len(taken) :]
                if not self._pieces[0]:
                    self._pieces.popleft()
        return done

    def read(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        buffer = bytearray(count)
        return bytes(buffer[: self.readinto(buffer)])

    def readline(self) -> bytes:
        """Only for older protocols of pickle."""
        raise ParcelInvalid("parcel: a pickle of an older protocol")
