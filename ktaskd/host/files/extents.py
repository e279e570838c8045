"""Which parts of a file have storage, by the map of its file system.

Other than lseek it tells what was reserved but never written from a hole, and it
moves no offset. Memory has no such map.

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
"""fe_logical, fe_length, fe_flags, without what is in between."""
_EXTENTS = 64
"""In one answer; longer than the 1024 bytes up to which fcntl.ioctl makes a copy."""

_NO_MAP = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM})


def read_unallocated(fd: int, start: int, end: int) -> list[tuple[int, int]] | None:
    """Parts of [start, end) without storage, ascending; None where the file system has no map.

    Edges inside of [start, end) are those of the file system's blocks. Storage beyond
    the end of the file counts as such.

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
            return None  # it goes round in circles
        position = reached
    return holes


def _read_extents(fd: int, start: int, end: int) -> list[tuple[int, int]] | None:
    """The first of what has storage in [start, end), as (start, end)."""
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
