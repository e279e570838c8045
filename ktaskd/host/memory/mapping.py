"""A shared mapping of a whole source."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from array import array
from collections import Counter

from ktaskd.host.libc import mincore, syscall

PAGE = mmap.PAGESIZE

_MADV_POPULATE_READ = 22
_MADV_POPULATE_WRITE = 23
"""Source: madvise(2), linux/mman.h; Linux 5.14"""

_EHWPOISON = 133
"""Not in the errno module."""

_LOWEST_BIT = bytes(byte & 1 for byte in range(256))
"""The other bits that mincore returns are reserved."""

_REASONS = {
    errno.EFAULT: "the source became shorter, or its file system or the pool of huge pages is full",
    errno.ENOMEM: "there is no memory left, or the cgroup has reached its limit",
    errno.EINVAL: "the kernel is older than Linux 5.14",
    _EHWPOISON: "the memory is broken",
}


class Mapping:
    """Maps `size` bytes of `fd`. Mapping touches no page, so it is safe for any file.

    Args:
        page_size: size of the pages below; madvise requires ranges at multiples of it.
    """

    def __init__(self, fd: int, size: int, *, write: bool, page_size: int) -> None:
        """Map; raises OSError or ValueError if the file is shorter or cannot be mapped."""
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        try:
            self._map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=protection)
        except OSError as error:
            # ENOMEM: the pool of huge pages, from which a mapping reserves, or the address
            # space is exhausted.
            number = error.errno or errno.EIO
            raise OSError(number, f"{size} bytes cannot be mapped: {os.strerror(number)}") from error
        self._page_size = max(page_size, PAGE)
        self.size = size
        self.write = write

    def view(self, start: int, end: int) -> memoryview:
        """Bytes [start, end); the caller releases the view."""
        with memoryview(self._map) as whole:
            return whole[start:end]

    def populate(self, start: int, end: int) -> None:
        """Fault in the pages of [start, end), for writing if the mapping is writable.

        Raises:
            OSError: a page is not available; touching it would have raised SIGBUS.
        """
        advice = _MADV_POPULATE_WRITE if self.write else _MADV_POPULATE_READ
        first = start - start % self._page_size
        try:
            self._map.madvise(advice, first, min(end, self.size) - first)
        except OSError as error:
            raise _unavailable(error, start, end) from error

    def touch(self, start: int, end: int, step: int) -> None:
        """Map the page at each multiple of `step` in [start, end); a page that is absent is allocated.

        Raises:
            OSError: a page is not available; touching it would have raised SIGBUS.
        """
        advice = _MADV_POPULATE_WRITE if self.write else _MADV_POPULATE_READ
        for position in range(-(-start // step) * step, min(end, self.size), step):
            try:
                self._map.madvise(advice, position, 1)
            except OSError as error:
                raise _unavailable(error, position, position + 1) from error

    def absent(self, start: int, end: int) -> list[tuple[int, int]]:
        """Parts of [start, end) whose pages are not in memory; touches none of them.

        Without the right to write the file the kernel reports all pages as present.
        Source: mincore(2)
        """
        first = start - start % PAGE
        count = (min(end, self.size) - first + PAGE - 1) // PAGE
        if count <= 0:
            return []
        pages = bytearray(count)
        mincore(self._address() + first, count * PAGE, pages)
        return _runs(bytes(pages.translate(_LOWEST_BIT)), first, start, end)

    def nodes(self, start: int, end: int, step: int) -> Counter[int]:
        """Count the pages on each NUMA node.

        Looks at every page whose position is a multiple of `step`, and touches none. Pages that
        are not mapped are counted under the negative errno that the kernel returns for them.

        Raises:
            OSError: the kernel has no NUMA, or forbids the call.
        Source: move_pages(2), with nodes NULL
        """
        first = -(-start // step) * step
        address = self._address()
        pages = array("Q", range(address + first, address + min(end, self.size), step))
        if not pages:
            return Counter()
        status = array("i", bytes(len(pages) * array("i").itemsize))
        count, (at, _), (into, _) = ctypes.c_ulong(len(pages)), pages.buffer_info(), status.buffer_info()
        asking = ctypes.c_void_p(at), ctypes.c_void_p(None), ctypes.c_void_p(into)
        syscall("move_pages", ctypes.c_int(0), count, *asking, ctypes.c_int(0))
        return Counter(status)

    def close(self) -> None:
        """Unmap; raises BufferError while a view is in use."""
        self._map.close()

    def _address(self) -> int:
        """Address of the mapping, which must be writable."""
        anchor = ctypes.c_char.from_buffer(self._map)
        return ctypes.addressof(anchor)


def _unavailable(error: OSError, start: int, end: int) -> OSError:
    number = error.errno or errno.EIO
    why = _REASONS.get(number, "the kernel refused")
    return OSError(number, f"bytes {start} to {end} cannot be populated: {why}")


def _runs(present: bytes, first: int, start: int, end: int) -> list[tuple[int, int]]:
    """The pages that are 0 in `present`, as byte ranges cut to [start, end)."""
    runs = []
    page = present.find(0)
    while page >= 0:
        after = present.find(1, page)
        after = len(present) if after < 0 else after
        runs.append((max(first + page * PAGE, start), min(first + after * PAGE, end)))
        page = present.find(0, after)
    return runs
