"""Encodes one frame at a time: a frame of zstd or a member of gzip."""

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
"""Magic numbers of the seek table at the end of a zstd file.
Source: contrib/seekable_format/zstd_seekable_compression_format.md of zstd"""

TABLE_HEAD, TABLE_ENTRY, TABLE_FOOT = struct.Struct("<II"), struct.Struct("<II"), struct.Struct("<IBI")

GZIP_HEAD = struct.Struct("<4sIBBHccHI")
"""Magic number, method and flags; no time; hints; length of the extra fields; one extra field "KT"
of 4 bytes with the length of the member. Source: RFC 1952"""

GZIP_TAIL = struct.Struct("<II")
_GZIP_MAGIC = b"\x1f\x8b\x08\x04"
_NO_SYSTEM = 255


class Encoder(Protocol):
    """Makes one frame after the other; the same bytes always give the same frame."""

    head: int
    """Bytes before the compressed ones; their values are known only at the end."""
    piece: int
    """Bytes to feed at once, so that a call takes no longer than a quantum."""

    def begin(self, size: int) -> None:
        """Begin a frame of `size` original bytes."""

    def feed(self, piece: memoryview) -> bytes:
        """Compress the next bytes; returns the next bytes of the frame."""

    def end(self) -> bytes:
        """End the frame; returns the rest of it."""

    def head_of(self, length: int) -> bytes:
        """The first `head` bytes of a frame of `length` bytes in all."""

    def table(self, count: int, entries: Iterator[tuple[int, int]]) -> Iterator[bytes]:
        """The table after the last frame, from the compressed and the original length of each."""

    def table_size(self, count: int) -> int:
        """Bytes of the table of `count` frames."""


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
"""The encoder of each format, its default level, and its highest level. zstd's "ultra" levels are left
out: one frame of 64 MiB took 576 MiB of memory and 100 s."""


def encoder_of(context: Context) -> Encoder:
    """The encoder for the arguments; raises OSError (EINVAL) if they do not fit together."""
    name, level = str(context.arg["format"]), int(context.arg["level"])
    if name not in _FORMATS:
        raise OSError(errno.EINVAL, f'argument "format": got "{name[:64]}", wanted zstd or gzip')
    make, usual, highest = _FORMATS[name]
    if level > highest:
        raise OSError(errno.EINVAL, f'argument "level": got {level}, wanted at most {highest} for {name}')
    return make(level or usual)


def empty_of(encoder: Encoder) -> bytes:
    """An empty frame."""
    encoder.begin(0)
    rest = encoder.end()
    return encoder.head_of(encoder.head + len(rest)) + rest


def slot_of(frame: int) -> int:
    """Bytes of a slot that is long enough for `frame` original bytes in either format; whole pages.

    zstd's own bound adds a 256th; zlib-ng's fastest level spends at most 9 bits on a byte.
    """
    return (frame + frame // 8 + 2 * 4096) // 4096 * 4096
