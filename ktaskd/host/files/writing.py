"""Write at a position of a description whose owner may set O_APPEND at any moment.

With O_APPEND the kernel writes at the end of the file, whatever position it was given (BUGS in
pwrite(2)). Linux 6.9 and newer can ignore the flag for one call. On older kernels each write is
checked before and after.

Source: pwritev2(2), RWF_NOAPPEND in linux/fs.h
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence

RWF_NOAPPEND = 0x20

Pieces = Sequence[bytes | memoryview]
Write = Callable[[int, Pieces, int], int]


class Misplaced(OSError):
    """Bytes went to the end of the file, or may have gone there.

    Args:
        start, end: the range at the end of the file that may have been written.
    """

    def __init__(self, start: int, end: int) -> None:
        """Name the range."""
        super().__init__(
            errno.ESTALE,
            "O_APPEND was set while the job wrote, so bytes may have gone to the end of the file, from "
            f"{start} to {end}; clear the flag and run the job again",
        )
        self.start = start
        self.end = end


class Positioned:
    """Writes at positions with the best method that the kernel offers.

    Args:
        ignores_append: whether to try RWF_NOAPPEND; not tried again if the kernel lacks it.
    """

    def __init__(self, *, ignores_append: bool = True) -> None:
        """Try RWF_NOAPPEND at the first write."""
        self._ignores_append = ignores_append

    def write(self, fd: int, pieces: Pieces, position: int) -> int:
        """Write some of `pieces` from `position` on; returns how many bytes.

        Raises:
            Misplaced: O_APPEND was set meanwhile.
            OSError: as pwritev; EBADF with an explanation if O_APPEND is set and cannot be ignored.
        """
        if self._ignores_append:
            try:
                return os.pwritev(fd, pieces, position, RWF_NOAPPEND)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
            self._ignores_append = False
        return write_watched(fd, pieces, position)


def write_watched(fd: int, pieces: Pieces, position: int, write: Write | None = None) -> int:
    """The same for a kernel that cannot ignore O_APPEND.

    Args:
        write: used in place of pwritev.
    """
    if _appends(fd):
        words = "has O_APPEND set, and Linux before 6.9 then writes at the end of the file; clear the flag"
        raise OSError(errno.EBADF, words)
    before = os.fstat(fd).st_size
    count = (write or os.pwritev)(fd, pieces, position)

    def holds() -> bool | None:
        return _holds(fd, b"".join(pieces)[:count], position)

    _check(fd, before, position + count, holds)
    return count


def copy_watched(
    src_fd: int, dst_fd: int, count: int, position: int, copy: Callable[..., int] | None = None
) -> int:
    """Copy to the same position; copy_file_range refuses O_APPEND only if it was set before.

    Args:
        copy: used in place of copy_file_range.
    Raises:
        Misplaced: O_APPEND was set meanwhile.
        OSError: as copy_file_range.
    """
    before = os.fstat(dst_fd).st_size
    copied = (copy or os.copy_file_range)(src_fd, dst_fd, count, position, position)

    def holds() -> bool | None:
        return _holds(dst_fd, os.pread(src_fd, copied, position), position)

    _check(dst_fd, before, position + copied, holds)
    return copied


def _check(fd: int, before: int, end: int, holds: Callable[[], bool | None]) -> None:
    """Raise Misplaced unless the bytes that were written up to `end` are there.

    Args:
        before: length of the file before the write.
        holds: returns whether the file has the bytes; None = it cannot be read.
    """
    after, appends = os.fstat(fd).st_size, _appends(fd)
    if after == max(before, end) and not appends:
        return
    # Another process that writes the same file may have changed its length.
    found = holds()
    if found is False or (found is None and appends):
        raise Misplaced(before, after)


def _holds(fd: int, content: bytes, position: int) -> bool | None:
    try:
        return os.pread(fd, len(content), position) == content
    except OSError:
        return None


def _appends(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
