"""Checks results a second time, by code that shares nothing with ktaskd."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

PIECE = 1 << 20
"""Bytes looked at together: fits the cache."""


def pieces(fd: int) -> Iterator[memoryview]:
    """All bytes of a file or memory in order; each piece is valid until the next."""
    buffer = memoryview(bytearray(PIECE))
    position = 0
    while count := os.preadv(fd, [buffer], position):
        yield buffer[:count]
        position += count


def crc32(fd: int) -> int:
    """The checksum by zlib."""
    value = 0
    for piece in pieces(fd):
        value = zlib.crc32(piece, value)
    return value


def same_bytes(left: int, right: int, size: int) -> bool:
    """Whether both descriptors have exactly `size` bytes, and the same ones."""
    if os.fstat(left).st_size != size or os.fstat(right).st_size != size:
        return False
    other = bytearray(PIECE)
    position = 0
    for piece in pieces(left):
        with memoryview(other)[: len(piece)] as view:
            if os.preadv(right, [view], position) != len(piece):
                return False
        # A memoryview is compared byte by byte; bytes are compared by memcmp.
        if other[: len(piece)] != piece.tobytes():
            return False
        position += len(piece)
    return position == size


def all_bytes(fd: int, size: int, value: int) -> bool:
    """Whether the descriptor has exactly `size` bytes, all of this value."""
    wanted = bytes([value]) * PIECE
    count = 0
    for piece in pieces(fd):
        if piece.tobytes() != wanted[: len(piece)]:
            return False
        count += len(piece)
    return count == size
