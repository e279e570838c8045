"""Finds the frames of compressed files without decompressing them, as far as that can be.

zstd says in each frame and before each block how long it is; gzip says nothing, so that only
members that carry their length in a field of their header can be told apart ("KT" as written
here, "BC" as bgzip does).

Source: RFC 8878, RFC 1952, SAMv1 4.1
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

import zstandard

from ktaskd.functions.body import OpenSource
from ktaskd.functions.encoders import TABLE_HEAD
from ktaskd.model.limits import POSITION_MAX

WINDOW_LOG = 27
"""Of a zstd frame's window, where the job does not say otherwise; the limit of zstd(1), 128 MiB."""

_WINDOW_LOG_MAX = 31
"""Source: zstd.h, ZSTD_WINDOWLOG_MAX_64"""

FRAMES_MAX = 1 << 20
"""Kept track of: 24 bytes each. A file with more is decompressed by one worker."""

ZSTD_MAGIC, GZIP_MAGIC = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
ZSTD_HEADER = 18
"""Bytes of the longest header of a frame."""
_SKIPPABLE_FIRST, _SKIPPABLE_LAST = 0x184D2A50, 0x184D2A5F
_BLOCK_HEADER = 3
_RLE, _RESERVED = 1, 3
_CHECKSUM = 4
_GZIP_FIXED = 12
_GZIP_TRAILER = struct.Struct("<II")
_EXTRA_FLAG = 4

HEADERS, HEADERS_PER_MIB = 1 << 17, 64
"""Of frames and blocks that are looked at in advance, in some 0.2 s: zstd's blocks hold 128 KiB."""

_HEADERS_PER_TICK = 64

Tick = Callable[[], bool]
"""Says that there is life in it; True = stop."""


class Stopped(Exception):
    """The chunk is wanted back."""


def _no_tick() -> bool:
    return False


@dataclass(slots=True)
class Frames:
    """Where frames are, and where what they hold goes to.

    Args:
        starts, ends: in the compressed file.
        places: of each in what was compressed, and where the last one ends.
    """

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q", (0,)))

    def add(self, start: int, end: int, size: int) -> None:
        """The next one; raises Unreadable where it says what cannot be."""
        if self.places[-1] + size > POSITION_MAX:
            raise Unreadable(start, f"says that it becomes {size} bytes long")
        self.starts.append(start)
        self.ends.append(end)
        self.places.append(self.places[-1] + size)

    @property
    def size(self) -> int:
        """Of what was compressed."""
        return self.places[-1]

    def beginning_in(self, start: int, end: int) -> range:
        """Numbers of those that begin in [start, end)."""
        return range(bisect_left(self.starts, start), bisect_left(self.starts, end))


class Unreadable(OSError):
    """The source is not what it should be; the text says where."""

    def __init__(self, at: int, words: str) -> None:
        super().__init__(errno.EBADMSG, f'source "src": at {at}: {words}')


def format_of(source: OpenSource) -> str:
    """Which format it is by the first bytes; raises Unreadable."""
    begin = os.pread(source.fd, 4, 0)
    if begin.startswith(GZIP_MAGIC):
        return "gzip"
    if begin == ZSTD_MAGIC or (len(begin) == 4 and is_skippable(begin)):
        return "zstd"
    raise Unreadable(0, f"begins with {begin.hex() or 'nothing'}, wanted a zstd or a gzip file")


def find_zstd(source: OpenSource, tick: Tick = _no_tick, window_log: int = WINDOW_LOG) -> Frames | None:
    """All frames of a zstd file; None where one does not say how long it will be.

    Also where it consists of ever so many blocks of next to nothing.

    Raises:
        Unreadable: it is broken, ends too early, or needs a larger window.
        Stopped: as tick has asked for.
    """
    frames, at, size = Frames(), 0, source.size()
    walk = Walk(source, tick, max(HEADERS, HEADERS_PER_MIB * (size >> 20)), window_log)
    while at < size:
        begin = os.pread(source.fd, ZSTD_HEADER, at)
        end = walk.next(at, begin, size)
        if walk.left < 0:
            return None
        if not is_skippable(begin):
            content = _parameters(begin, at).content_size
            if content == zstandard.CONTENTSIZE_UNKNOWN or len(frames.starts) == FRAMES_MAX:
                return None
            frames.add(at, end, content)
        at = end
    return frames


class Walk:
    """Goes from block to block, and says that it lives.

    Args:
        left: headers that it may look at before it gives up, below 0 then.
        window_log: frames whose window is larger than 2 to the power of it are refused.
    """

    def __init__(self, source: OpenSource, tick: Tick, left: int, window_log: int = WINDOW_LOG) -> None:
        """Hold them."""
        self._window_log = window_log
        self.left = left
        self._source = source
        self._tick = tick

    def next(self, at: int, begin: bytes, size: int) -> int:
        """Where the frame ends that begins at `at` with `begin`; raises Unreadable, Stopped."""
        self._look()
        if is_skippable(begin):
            length: int = TABLE_HEAD.unpack_from(begin.ljust(TABLE_HEAD.size, b"\0"))[1]
            end = at + TABLE_HEAD.size + length
        else:
            end = self._through(at, begin, size)
        if end > size:
            raise Unreadable(size, f"ends within the frame that begins at {at}")
        return end

    def _look(self) -> None:
        self.left -= 1
        if self.left % _HEADERS_PER_TICK == 0 and self._tick():
            raise Stopped

    def _through(self, at: int, begin: bytes, size: int) -> int:
        source = self._source
        parameters = _parameters(begin, at)
        _require_window(parameters.window_size, self._window_log, at)
        checksum = _CHECKSUM if parameters.has_checksum else 0
        header_size: int = zstandard.frame_header_size(begin)
        position, last = at + header_size, False
        while not last and self.left >= 0:
            self._look()
            header = os.pread(source.fd, _BLOCK_HEADER, position)
            if len(header) < _BLOCK_HEADER:
                raise Unreadable(size, f"ends within the frame that begins at {at}")
            word = int.from_bytes(header, "little")
            last, kind, length = bool(word & 1), word >> 1 & 3, word >> 3
            if kind == _RESERVED:
                raise Unreadable(position, "no block of zstd")
            position += _BLOCK_HEADER + (1 if kind == _RLE else length)
        return position + checksum if last else position


def _parameters(begin: bytes, at: int) -> zstandard.FrameParameters:
    try:
        return zstandard.get_frame_parameters(begin)
    except zstandard.ZstdError as error:
        raise Unreadable(at, f"no frame of zstd ({error})") from error


def _require_window(size: int, window_log: int, at: int) -> None:
    """Refuse a frame that needs more memory than was asked for, before any is taken."""
    needed = (size - 1).bit_length()
    # No zstd makes a larger one: such a header is broken, and is refused for what it says.
    if window_log < needed <= _WINDOW_LOG_MAX:
        raise Unreadable(
            at,
            f"needs a window of {size} bytes, and at most {1 << window_log} are allowed; "
            f"give the argument window_log={needed} to allow it",
        )


def is_skippable(begin: bytes) -> bool:
    """Whether these bytes begin a frame of something else, which is left out."""
    return _SKIPPABLE_FIRST <= int.from_bytes(begin[:4], "little") <= _SKIPPABLE_LAST


def find_gzip(source: OpenSource, tick: Tick = _no_tick) -> Frames | None:
    """All members of a gzip file; None where one does not say how long it is. Raises Stopped."""
    frames, at, size = Frames(), 0, source.size()
    while at < size:
        if len(frames.starts) % _HEADERS_PER_TICK == 0 and tick():
            raise Stopped
        length = member_length(source, at)
        if length < _GZIP_FIXED + _GZIP_TRAILER.size or at + length > size:
            return None
        tail = os.pread(source.fd, _GZIP_TRAILER.size, at + length - _GZIP_TRAILER.size)
        if len(tail) < _GZIP_TRAILER.size or len(frames.starts) == FRAMES_MAX:
            return None
        frames.add(at, at + length, _GZIP_TRAILER.unpack(tail)[1])
        at += length
    return frames


def member_length(source: OpenSource, at: int) -> int:
    """What a gzip member says of its own length; 0 where it says nothing."""
    head = os.pread(source.fd, _GZIP_FIXED, at)
    if len(head) < _GZIP_FIXED or not head.startswith(GZIP_MAGIC) or not head[3] & _EXTRA_FLAG:
        return 0
    extra = os.pread(source.fd, int.from_bytes(head[10:12], "little"), at + _GZIP_FIXED)
    position = 0
    while position + 4 <= len(extra):
        name, length = (
            extra[position : position + 2],
            int.from_bytes(extra[position + 2 : position + 4], "little"),
        )
        value = int.from_bytes(extra[position + 4 : position + 4 + length], "little")
        if name == b"KT" and length == 4:
            return value
        if name == b"BC" and length == 2:
            return value + 1
        position += 4 + length
    return 0
