"""Where an open file has storage, and how to take storage back."""

from __future__ import annotations

import errno
import os

from ktaskd.host.libc import fallocate

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""Source: fallocate(2), linux/falloc.h"""


def punch(fd: int, start: int, end: int) -> None:
    """Make [start, end) a hole; the length of the file stays.

    Raises:
        OSError: EOPNOTSUPP where the file system cannot, EPERM on a sealed memfd.
    """
    if start < end:
        _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end)


def allocate(fd: int, start: int, end: int) -> None:
    """Give [start, end) storage; no byte changes, and the length of the file stays.

    Raises:
        OSError: ENOSPC where there is not enough, of which some may be taken by now;
            EOPNOTSUPP where the file system cannot.
    """
    if start < end:
        _fallocate(fd, _KEEP_SIZE, start, end)


def read_holes(fd: int, start: int, end: int) -> list[tuple[int, int]]:
    """Parts of [start, end) without storage, ascending; all beyond the end of the file.

    Moves the offset of the open file description, so that it is for
    descriptions that nobody else uses. A file system that does not know its
    holes has none. Source: lseek(2)
    """
    return read_layout(fd, start, end)[0]


def read_layout(fd: int, start: int, end: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The same, and the last stretch of data that was found, which may reach beyond `end`.

    The kernel cannot be asked for less: to find the next hole of a dense memfd it
    walks all its pages, whatever part the caller is at.
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
    """Where data or a hole begins; `end` where there is none of it."""
    try:
        return os.lseek(fd, position, whence)
    except OSError as error:
        # ENXIO: no data from here on, or the file ends before this position.
        if error.errno != errno.ENXIO:
            raise
        return end


def _fallocate(fd: int, mode: int, start: int, end: int) -> None:
    """The call, whose errors are worded as those of calls that Python knows."""
    try:
        fallocate(fd, mode, start, end - start)
    except OSError as error:
        number = error.errno or errno.EIO
        raise OSError(number, os.strerror(number)) from error
