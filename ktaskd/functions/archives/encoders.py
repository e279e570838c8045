"""One frame of compressed data: a frame of zstd, or a member of gzip. The libraries do the work."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import zstandard
from zlib_ng import zlib_ng

from ktaskd.functions.body import Context
from ktaskd.functions.quanta import BUFFER

SKIPPABLE = 0x184D2A5E
SEEKABLE = 0x8F92EAB1
"""Magic numbers of the table of frames behind a zstd file.
Source: contrib/seekable_format/zstd_seekable_compression_format.md of zstd"""

TABLE_HEAD, TABLE_ENTRY, TABLE_FOOT = struct.Struct("<II"), struct.Struct("<II"), struct.Struct("<IBI")

GZIP_HEAD = struct.Struct("<4sIBBHccHI")
"""Magic number, method and flags; no time; hints; length of what is extra; the one field
"KT" of 4 bytes: the length of the member. Source: RFC 1952"""

GZIP_TAIL = struct.Struct("<II")
_GZIP_MAGIC = b"\x1f\x8b\x08\x04"
_NO_SYSTEM = 255


class Encoder(Protocol):
    """Makes one frame after the other; the same of the same bytes every time."""

    head: int
    """Bytes before the compressed ones, which are known only in the end."""
    piece: int
    """Bytes to feed at one time, so that it takes no longer than a quantum."""

    def begin(self, size: int) -> None:
        """A frame of so many bytes begins."""

    def feed(self, piece: memoryview) -> bytes:
        """The next bytes; what of the frame follows."""

    def end(self) -> bytes:
        """No more bytes; the rest of the frame."""

    def head_of(self, length: int) -> bytes:
        """The first `head` bytes of a frame that is so long as a whole."""

    def table(self, count: int, entries: Iterator[tuple[int, int]]) -> Iterator[bytes]:
        """What follows the last frame, of the compressed and the original length of each."""

    def table_size(self, count: int) -> int:
        """Bytes of the table of so many frames."""


class _Zstd:
    head = 0

    def __init__(self, level: int) -> None:
        # At level 19 a block of 128 KiB takes 90 ms.
        self.piece = BUFFER if level < 10 else BUFFER // 2
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)

    def begin(self, size: int) -> None:
        self._object = self._compressor.compressobj(size=size)

    def feed(self, piece: memoryview) -> bytes:
        return self._object.compress(piece)

    def end(self) -> bytes:
        return self._object.flush()

    def head_of(self, length: int) -> bytes:
        return b""

    def table(self, count: int, entries: Iterator[tuple[int, int]]) -> Iterator[bytes]:
        yield TABLE_HEAD.pack(SKIPPABLE, count * TABLE_ENTRY.size + TABLE_FOOT.size)
        for length, size in entries:
            yield TABLE_ENTRY.pack(length, size)
        yield TABLE_FOOT.pack(count, 0, SEEKABLE)

    def table_size(self, count: int) -> int:
        return TABLE_HEAD.size + count * TABLE_ENTRY.size + TABLE_FOOT.size


class _Gzip:
    head = GZIP_HEAD.size
    piece = BUFFER

    def __init__(self, level: int) -> None:
        self._level = level
        self._crc = self._size = 0

    def begin(self, size: int) -> None:
        self._object = zlib_ng.compressobj(self._level, zlib_ng.DEFLATED, -zlib_ng.MAX_WBITS)
        self._crc = self._size = 0

    def feed(self, piece: memoryview) -> bytes:
        self._crc = zlib_ng.crc32(piece, self._crc)
        self._size += len(piece)
        return self._object.compress(piece)

    def end(self) -> bytes:
        return self._object.flush() + GZIP_TAIL.pack(self._crc, self._size)

    def head_of(self, length: int) -> bytes:
        return GZIP_HEAD.pack(_GZIP_MAGIC, 0, 0, _NO_SYSTEM, 8, b"K", b"T", 4, length)

    def table(self, count: int, entries: Iterator[tuple[int, int]]) -> Iterator[bytes]:
        return iter(())

    def table_size(self, count: int) -> int:
        return 0


_FORMATS: Mapping[str, tuple[Callable[[int], Encoder], int, int]] = {
    "zstd": (_Zstd, 3, 19),
    "gzip": (_Gzip, 6, 9),
}
"""By name: the encoder, its usual level, and its highest. zstd's "ultra" levels are not among
them: one frame of 64 MiB took 576 MiB of memory and 100 s."""


def encoder_of(context: Context) -> Encoder:
    """By the arguments; raises OSError (EINVAL) where they do not fit together."""
    name, level = str(context.arg["format"]), int(context.arg["level"])
    if name not in _FORMATS:
        raise OSError(errno.EINVAL, f'argument "format": got "{name[:64]}", wanted zstd or gzip')
    make, usual, highest = _FORMATS[name]
    if level > highest:
        raise OSError(errno.EINVAL, f'argument "level": got {level}, wanted at most {highest} for {name}')
    return make(level or usual)


def empty_of(encoder: Encoder) -> bytes:
    """The frame of no bytes."""
    encoder.begin(0)
    rest = encoder.end()
    return encoder.head_of(encoder.head + len(rest)) + rest


def slot_of(frame: int) -> int:
    """More bytes than a frame of so many can become, in either format; whole pages.

    zstd's own bound is a 256th more; zlib-ng's fastest level spends 9 bits on a byte at most.
    """
    return (frame + frame // 8 + 2 * 4096) // 4096 * 4096
