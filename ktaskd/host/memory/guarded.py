"""Map part of a file between guard pages, so that code that leaves it is stopped by a signal."""

from __future__ import annotations

import mmap

from ktaskd.host import libc

PAGE = mmap.PAGESIZE

GUARD_BYTES = 1 << 20
"""Bytes of guard pages on each side; an access further away is not caught."""

_PROT_NONE, _MAP_FIXED, _MAP_NORESERVE = 0, 0x10, 0x4000
"""Source: mmap(2), linux/mman.h"""


class GuardedMapping:
    """The pages of a file that hold [start, end), between guards.

    Args:
        page_size: size of the file's pages; the mapping begins and ends at page boundaries.
    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, fd: int, start: int, end: int, *, write: bool, page_size: int) -> None:
        """Map."""
        page = max(page_size, PAGE)
        self._first = start - start % page
        length = -(-(end - self._first) // page) * page
        self._length = length + 2 * GUARD_BYTES + page
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._base = libc.mmap(None, self._length, _PROT_NONE, flags, -1, 0)
        self._at = -(-(self._base + GUARD_BYTES) // page) * page
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        try:
            libc.mmap(self._at, length, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, self._first)
        except OSError:
            self.close()
            raise

    def address(self, position: int) -> int:
        """The address of a position of the file."""
        return self._at + position - self._first

    def close(self) -> None:
        """Unmap the pages and the guards."""
        if self._base:
            base, self._base = self._base, 0
            libc.munmap(base, self._length)
