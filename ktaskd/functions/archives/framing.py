"""Finds the frames of compressed files without decompressing them, if possible.

A zstd file may have a seek table. Otherwise each frame and each block of zstd states its length, and
pzstd writes the length of each frame before it. Plain gzip states no lengths: only members with their
length in a header field can be found ("KT" as written by file.compress, "BC" by bgzip).

Source: RFC 8878, RFC 1952, SAMv1 4.1; contrib/pzstd of zstd
"""

from __future__ import annotations

import os
import struct

import zstandard

from ktaskd.functions.archives.encoders import TABLE_HEAD
from ktaskd.functions.archives.frames import FRAMES_MAX, Astray, Frames, Stopped, Tick, Unreadable, most_of
from ktaskd.functions.archives.seektable import find_table
from ktaskd.functions.body import OpenSource

WINDOW_LOG = 27
"""Default limit of a zstd frame's window, as a power of 2: 128 MiB, as in zstd(1)."""

_WINDOW_LOG_MAX = 31
"""Source: zstd.h, ZSTD_WINDOWLOG_MAX_64"""

ZSTD_MAGIC, GZIP_MAGIC = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
ZSTD_HEADER = 18
"""Bytes of the longest frame header."""
_SKIPPABLE_FIRST, _SKIPPABLE_LAST = 0x184D2A50, 0x184D2A5F
_PZSTD, _PZSTD_COUNT = struct.Struct("<III"), 4
"""A skippable frame of 4 bytes: the length of the frame that follows."""
_PZSTD_WINDOWS = 4
"""Windows of content in each of pzstd's frames except the last.
Source: contrib/pzstd/Pzstd.cpp of zstd, calculateStep"""
_BLOCK_HEADER = 3
_RLE, _RESERVED = 1, 3
_CHECKSUM = 4
_GZIP_FIXED = 12
_GZIP_TRAILER = struct.Struct("<II")
_EXTRA_FLAG = 4

HEADERS, HEADERS_PER_MIB = 1 << 17, 64
"""Headers of frames and blocks that are read in advance, which takes some 0.2 s. A block of zstd
holds 128 KiB."""

_HEADERS_PER_TICK = 64


def _no_tick() -> bool:
    return False


def format_of(source: OpenSource) -> str:
    """The format by the first bytes; raises Unreadable."""
    begin = os.pread(source.fd, 4, 0)
    if begin.startswith(GZIP_MAGIC):
        return "gzip"
    if begin == ZSTD_MAGIC or (len(begin) == 4 and is_skippable(begin)):
        return "zstd"
    raise Unreadable(0, f"begins with {begin.hex() or 'nothing'}, wanted a zstd or a gzip file")


def find_zstd(source: OpenSource, tick: Tick = _no_tick, window_log: int = WINDOW_LOG) -> Frames | None:
    """All frames of a zstd file; None if the decompressed length of one of them is not known.

    Also None if the file consists of too many tiny blocks.

    Raises:
        Unreadable: it is broken, ends too early, or needs a larger window.
        Stopped: tick asked for it.
    """
    if (frames := find_table(source)) is not None:
        return frames
    frames = Frames()
    try:
        return frames if _walk_all(frames, source, tick, window_log) else None
    except Astray:
        if frames.sure:
            raise
        return None  # what looked like pzstd's lengths was something else


def _walk_all(frames: Frames, source: OpenSource, tick: Tick, window_log: int) -> bool:
    """Add the frames one after the other; returns whether all of them were found."""
    at, size, guessed = 0, source.size(), False
    walk = Walk(source, tick, max(HEADERS, HEADERS_PER_MIB * (size >> 20)), window_log)
    while at < size:
        begin = os.pread(source.fd, _PZSTD.size + ZSTD_HEADER, at)
        start, end = walk.announced(at, begin, size) or (at, walk.next(at, begin, size))
        if walk.left < 0:
            return False
        begin = begin[start - at :]
        if not is_skippable(begin):
            found, announced = parameters_of(begin, start), start > at
            content, guessed = found.content_size, found.content_size == zstandard.CONTENTSIZE_UNKNOWN
            if len(frames.starts) == FRAMES_MAX or (guessed and not announced):
                return False
            if guessed:
                content = min(_PZSTD_WINDOWS * found.window_size, most_of(end - start))
            frames.add(start, end, content)
            frames.sure = frames.sure and not announced
        at = end
    if guessed:
        frames.leave_open()
    return True


class Walk:
    """Goes from block to block and calls `tick` now and then.

    Args:
        left: headers that it may read before it gives up; negative after that.
        window_log: refuse frames whose window is larger than 2**window_log.
    """

    def __init__(self, source: OpenSource, tick: Tick, left: int, window_log: int = WINDOW_LOG) -> None:
        """Keep them."""
        self._window_log = window_log
        self.left = left
        self._source = source
        self._tick = tick

    def next(self, at: int, begin: bytes, size: int) -> int:
        """End of the frame that begins at `at` with the bytes `begin`; raises Unreadable, Stopped."""
        self._look()
        if is_skippable(begin):
            length: int = TABLE_HEAD.unpack_from(begin.ljust(TABLE_HEAD.size, b"\0"))[1]
            end = at + TABLE_HEAD.size + length
        else:
            end = self._through(at, begin, size)
        if end > size:
            raise Astray(size, f"the file ends within the frame that begins at {at}")
        return end

    def announced(self, at: int, begin: bytes, size: int) -> tuple[int, int] | None:
        """Begin and end of the frame whose length pzstd wrote at `at`; None if pzstd did not.

        Checks only whether a frame begins there and another one after it.
        Raises Unreadable, Stopped.
        """
        start, frame = at + _PZSTD.size, begin[_PZSTD.size :]
        if not frame.startswith(ZSTD_MAGIC):
            return None
        magic, count, length = _PZSTD.unpack_from(begin)
        end = start + length
        if (magic, count) != (_SKIPPABLE_FIRST, _PZSTD_COUNT) or end > size or not length:
            return None
        following = os.pread(self._source.fd, len(ZSTD_MAGIC), end)
        if following not in (b"", ZSTD_MAGIC) and not is_skippable(following):
            return None
        self._look()
        _require_window(parameters_of(frame, start).window_size, self._window_log, start)
        return start, end

    def _look(self) -> None:
        self.left -= 1
        if self.left % _HEADERS_PER_TICK == 0 and self._tick():
            raise Stopped

    def _through(self, at: int, begin: bytes, size: int) -> int:
        source = self._source
        parameters = parameters_of(begin, at)
        _require_window(parameters.window_size, self._window_log, at)
        checksum = _CHECKSUM if parameters.has_checksum else 0
        header_size: int = zstandard.frame_header_size(begin)
        position, last = at + header_size, False
        while not last and self.left >= 0:
            self._look()
            header = os.pread(source.fd, _BLOCK_HEADER, position)
            if len(header) < _BLOCK_HEADER:
                raise Astray(size, f"the file ends within the frame that begins at {at}")
            word = int.from_bytes(header, "little")
            last, kind, length = bool(word & 1), word >> 1 & 3, word >> 3
            if kind == _RESERVED:
                raise Astray(position, "not a block of zstd")
            position += _BLOCK_HEADER + (1 if kind == _RLE else length)
        return position + checksum if last else position


def parameters_of(begin: bytes, at: int) -> zstandard.FrameParameters:
    """The fields of a frame's header; raises Astray if there is no header."""
    try:
        return zstandard.get_frame_parameters(begin)
    except zstandard.ZstdError as error:
        raise Astray(at, f"not a frame of zstd ({error})") from error


def _require_window(size: int, window_log: int, at: int) -> None:
    """Refuse a frame that needs more memory than allowed, before any is allocated."""
    needed = (size - 1).bit_length()
    # No zstd makes a larger window: such a header is broken, and the library refuses it.
    if window_log < needed <= _WINDOW_LOG_MAX:
        raise Unreadable(
            at,
            f"needs a window of {size} bytes (limit {1 << window_log}); "
            f"submit with window_log={needed} to allow it",
        )


def is_skippable(begin: bytes) -> bool:
    """Whether these bytes begin a skippable frame, which holds something else."""
    return _SKIPPABLE_FIRST <= int.from_bytes(begin[:4], "little") <= _SKIPPABLE_LAST


def find_gzip(source: OpenSource, tick: Tick = _no_tick) -> Frames | None:
    """All members of a gzip file; None if one does not state its length. Raises Stopped."""
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
    """The length that a gzip member states; 0 if it states none."""
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
