"""Part of a file mapped alone, with nothing beside it: who leaves it is stopped by a signal."""

from __future__ import annotations

import ctypes
import mmap
import os

PAGE = mmap.PAGESIZE

GUARD_BYTES = 1 << 20
"""On both sides; what goes astray further than that is not caught."""

_PROT_NONE, _PROT_READ, _PROT_WRITE = 0, 1, 2
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x1, 0x2, 0x10, 0x20, 0x4000
_FAILED = ctypes.c_void_p(-1).value
"""Source: mmap(2), linux/mman.h"""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
]  # fmt: skip
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class GuardedMapping:
    """The pages of a file that hold [start, end), between guards.

    Args:
        page_size: of the file's pages; their edges are those of the mapping.
    Raises:
        OSError: it cannot be mapped.
    """

    def __init__(self, fd: int, start: int, end: int, *, write: bool, page_size: int) -> None:
        """Map."""
        page = max(page_size, PAGE)
        self._first = start - start % page
        length = -(-(end - self._first) // page) * page
        self._length = length + 2 * GUARD_BYTES + page
        self._base = _mmap(
            None, self._length, _PROT_NONE, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0
        )
        self._at = -(-(self._base + GUARD_BYTES) // page) * page
        protection = _PROT_READ | (_PROT_WRITE if write else 0)
        try:
            _mmap(self._at, length, protection, _MAP_SHARED | _MAP_FIXED, fd, self._first)
        except OSError:
            self.close()
            raise

    def address(self, position: int) -> int:
        """Where a position of the file is in memory."""
        return self._at + position - self._first

    def close(self) -> None:
        """Unmap all of it."""
        if self._base:
            base, self._base = self._base, 0
            _LIBC.munmap(base, self._length)


def _mmap(at: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    found: int | None = _LIBC.mmap(at, length, protection, flags, fd, offset)
    if found is None or found == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"{length} bytes cannot be mapped: {os.strerror(number)}")
    return found
