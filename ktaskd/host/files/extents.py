"""Find which parts of a file have storage, from the map of its file system.

Unlike lseek the map distinguishes reserved storage that was never written from a hole, and
reading it moves no file offset. Memory has no such map.

Source: Documentation/filesystems/fiemap.rst, linux/fiemap.h
"""

from __future__ import annotations

import errno
import fcntl
import struct

_FS_IOC_FIEMAP = 0xC020660B
_REQUEST = struct.Struct("=QQIIII")
"""fm_start, fm_length, fm_flags, fm_mapped_extents, fm_extent_count, fm_reserved."""
_EXTENT = struct.Struct("=Q8xQ16xI12x")
"""fe_logical, fe_length and fe_flags, without the fields between them."""
_EXTENTS = 64
"""Extents in one answer. The buffer is longer than the 1024 bytes up to which fcntl.ioctl copies it."""

_NO_MAP = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM})


def read_unallocated(fd: int, start: int, end: int) -> list[tuple[int, int]] | None:
    """Parts of [start, end) without storage, ascending; None if the file system has no map.

    Edges inside [start, end) are at block boundaries of the file system. Storage beyond the end
    of the file counts as storage.

    Raises:
        OSError: the map could not be read.
    """
    holes: list[tuple[int, int]] = []
    position = start
    while position < end:
        extents = _read_extents(fd, position, end)
        if extents is None:
            return None
        reached = position
        for first, after in extents:
            if first > reached:
                holes.append((reached, min(first, end)))
            reached = max(reached, after)
        if len(extents) < _EXTENTS:
            if reached < end:
                holes.append((reached, end))
            break
        if reached <= position:
            return None  # no progress
        position = reached
    return holes


def _read_extents(fd: int, start: int, end: int) -> list[tuple[int, int]] | None:
    """The first extents with storage in [start, end), each as (start, end)."""
    buffer = bytearray(_REQUEST.size + _EXTENTS * _EXTENT.size)
    _REQUEST.pack_into(buffer, 0, start, end - start, 0, 0, _EXTENTS, 0)
    try:
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, buffer, True)
    except OSError as error:
        if error.errno in _NO_MAP:
            return None
        raise
    count = _REQUEST.unpack_from(buffer)[3]
    found = (_EXTENT.unpack_from(buffer, _REQUEST.size + i * _EXTENT.size) for i in range(count))
    return [(first, first + length) for first, length, _ in found]
