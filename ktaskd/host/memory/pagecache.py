"""How much of a file is in the page cache, and how much more fits.

Source: Linux commit cf264e1329fb ("cachestat: implement cachestat syscall", Linux 6.5) and
mm/filemap.c; Documentation/admin-guide/mm/pagemap.rst does not mention cachestat
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from ktaskd.host.cgroups.memgroup import read_memory_limit
from ktaskd.host.libc import syscall
from ktaskd.host.root import HostRoot, read_kernel_text

_RANGE = struct.Struct("=QQ")
_ANSWER = struct.Struct("=QQQQQ")
"""nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted; in pages."""


def read_resident(fd: int, start: int, end: int) -> int:
    """Bytes of [start, end) that are in memory.

    Raises:
        OSError: ENOSYS before Linux 6.5, EOPNOTSUPP on hugetlbfs, EPERM if the caller
            neither can write the file nor owns it.
    """
    if start >= end:
        return 0
    asked = ctypes.create_string_buffer(_RANGE.pack(start, end - start), _RANGE.size)
    answer = ctypes.create_string_buffer(_ANSWER.size)
    syscall("cachestat", ctypes.c_uint(fd), asked, answer, ctypes.c_uint(0))
    pages: int = _ANSWER.unpack(answer.raw)[0]
    # The first and the last page may be only partly inside the range.
    return min(pages * mmap.PAGESIZE, end - start)


def read_vacant(fd: int, start: int, end: int) -> list[tuple[int, int]]:
    """Parts of [start, end) without a page in memory, ascending.

    Raises:
        OSError: as `read_resident`.
    """
    first, after = start // mmap.PAGESIZE, -(-end // mmap.PAGESIZE)
    runs = _vacant(fd, first, after) if start < end else []
    return [(max(start, a * mmap.PAGESIZE), min(end, b * mmap.PAGESIZE)) for a, b in runs]


def _vacant(fd: int, first: int, after: int) -> list[tuple[int, int]]:
    """Numbers of the pages that are not in memory, by halving what has some."""
    resident = read_resident(fd, first * mmap.PAGESIZE, after * mmap.PAGESIZE)
    if not resident:
        return [(first, after)]
    if resident == (after - first) * mmap.PAGESIZE:
        return []
    middle = (first + after) // 2
    left, right = _vacant(fd, first, middle), _vacant(fd, middle, after)
    if left and right and left[-1][1] == right[0][0]:
        left[-1], right = (left[-1][0], right[0][1]), right[1:]
    return left + right


def read_room(root: HostRoot) -> int | None:
    """Bytes that can be cached without pushing out memory that is in use; None if not known.

    The smaller of the kernel's MemAvailable and the limit of the memory cgroup of the calling
    process, which is charged for the pages that it reads. Source: proc_meminfo(5), MemAvailable
    """
    text = read_kernel_text(root.proc / "meminfo") or ""
    lines = (line.split() for line in text.splitlines())
    known = [int(line[1]) << 10 for line in lines if line[:1] == ["MemAvailable:"] and len(line) > 1]
    try:
        limit = read_memory_limit(root, os.getpid())
    except ProcessLookupError:
        limit = None
    if limit is not None:
        known.append(limit.limit_bytes)
    return min(known, default=None)
