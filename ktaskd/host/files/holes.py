"""Find where an open file has storage, reserve storage, and release it."""

from __future__ import annotations

import errno
import os

from ktaskd.host.libc import fallocate

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""Source: fallocate(2), linux/falloc.h"""


def punch(fd: int, start: int, end: int) -> None:
    """Make [start, end) a hole; the length of the file stays.

    Raises:
        OSError: EOPNOTSUPP if the file system cannot, EPERM on a sealed memfd.
    """
    if start < end:
        _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end)


def allocate(fd: int, start: int, end: int) -> None:
    """Reserve storage for [start, end); no byte changes, and the length of the file stays.

    Raises:
        OSError: ENOSPC if there is not enough, after some of it may have been reserved;
            EOPNOTSUPP if the file system cannot.
    """
    if start < end:
        _fallocate(fd, _KEEP_SIZE, start, end)


def read_holes(fd: int, start: int, end: int) -> list[tuple[int, int]]:
    """Parts of [start, end) without storage, ascending; everything beyond the end of the file counts.

    Moves the offset of the open file description, so use it only for descriptions that nobody
    else uses. A file system that does not report its holes has none. Source: lseek(2)
    """
    return read_layout(fd, start, end)[0]


def read_layout(fd: int, start: int, end: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The same, and the last stretch of data that was found, which may reach beyond `end`.

    The stretch is returned because finding its end is expensive: the kernel walks all pages of
    a dense memfd to find the next hole, whatever `end` is.
    """
    holes: list[tuple[int, int]] = []
    stretch = (start, start)
    position = start
    while position < end:
        data = _seek(fd, position, os.SEEK_DATA, end)
        if data > position:
            holes.append((position, min(data, end)))
        if data >= end:
            break
        position = _seek(fd, data, os.SEEK_HOLE, end)
        stretch = (data, position)
    return holes, stretch


def _seek(fd: int, position: int, whence: int, end: int) -> int:
    """Start of the next data or hole; `end` if there is none."""
    try:
        return os.lseek(fd, position, whence)
    except OSError as error:
        # ENXIO: no data from here on, or the file ends before this position.
        if error.errno != errno.ENXIO:
            raise
        return end


def _fallocate(fd: int, mode: int, start: int, end: int) -> None:
    """Call fallocate, with errors worded like those of Python's own calls."""
    try:
        fallocate(fd, mode, start, end - start)
    except OSError as error:
        number = error.errno or errno.EIO
        raise OSError(number, os.strerror(number)) from error
