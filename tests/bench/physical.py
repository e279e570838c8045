"""The sources of the rows of `ways`, and the bare calls that work on them."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from isal.isal_zlib import crc32

from ktaskd.host.files import holes

MIB = 1 << 20
PIECE = 256 << 10
_POPULATE_WRITE = 23
SEAL_SHRINK, _ADD_SEALS = 2, 1033
"""Source: linux/mman.h, linux/fcntl.h"""

Work = Callable[[Mapping[str, int], int, int], object]
"""Works on [start, end) of open files, by role."""


def fresh(_: Path, size: int) -> dict[str, int]:
    """New memory without a page."""
    fd = os.memfd_create("ways", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return {"data": fd}


def present(directory: Path, size: int) -> dict[str, int]:
    """Memory that has all its pages."""
    fds = fresh(directory, size)
    pwrite(fds, 0, size)
    return fds


def cached(directory: Path, size: int) -> dict[str, int]:
    """A file in the page cache."""
    path = directory / "cached"
    if not path.exists():
        path.touch()
        fd = os.open(path, os.O_RDWR)
        pwrite({"data": fd}, 0, size)
        os.fsync(fd)
        os.close(fd)
    return {"data": os.open(path, os.O_RDWR)}


def to_file(directory: Path, size: int) -> dict[str, int]:
    """A file in the page cache, and a new empty one."""
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    return {"src": cached(directory, size)["data"], "dst": fd}


def to_memory(directory: Path, size: int) -> dict[str, int]:
    """A file in the page cache, and new memory."""
    return {"src": cached(directory, size)["data"], "dst": fresh(directory, size)["data"]}


def memories(directory: Path, size: int) -> dict[str, int]:
    """Memory that has its pages, and new memory."""
    return {"src": present(directory, size)["data"], "dst": fresh(directory, size)["data"]}


# Bare ways.


def pwrite(fds: Mapping[str, int], start: int, end: int, value: int = 7) -> None:
    buffer = bytes([value]) * PIECE
    for at in range(start, end, PIECE):
        os.pwrite(fds["data"], buffer, at)


def mapped(fd: int, end: int) -> mmap.mmap:
    return mmap.mmap(fd, end, flags=mmap.MAP_SHARED)


def memset(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = mapped(fds["data"], end)
    anchor = ctypes.c_char.from_buffer(memory)
    ctypes.memset(ctypes.addressof(anchor) + start, 7, end - start)


def populate(fds: Mapping[str, int], start: int, end: int) -> None:
    mapped(fds["data"], end).madvise(_POPULATE_WRITE, start, end - start)


def populate_huge(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = mapped(fds["data"], end)
    memory.madvise(mmap.MADV_HUGEPAGE, start, end - start)
    memory.madvise(_POPULATE_WRITE, start, end - start)


def memset_populated(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = mapped(fds["data"], end)
    anchor = ctypes.c_char.from_buffer(memory)
    for at in range(start, end, 2 * MIB):
        memory.madvise(_POPULATE_WRITE, at, min(2 * MIB, end - at))
        ctypes.memset(ctypes.addressof(anchor) + at, 7, min(2 * MIB, end - at))


def memset_huge(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = mapped(fds["data"], end)
    memory.madvise(mmap.MADV_HUGEPAGE, start, end - start)
    anchor = ctypes.c_char.from_buffer(memory)
    ctypes.memset(ctypes.addressof(anchor) + start, 7, end - start)


def fallocate(fds: Mapping[str, int], start: int, end: int) -> None:
    holes.allocate(fds["data"], start, end)


def punch(fds: Mapping[str, int], start: int, end: int) -> None:
    holes.punch(fds["data"], start, end)


def crc_mapped(fds: Mapping[str, int], start: int, end: int) -> None:
    with memoryview(mapped(fds["data"], end)) as whole:
        crc32(whole[start:end])


def crc_populated(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = mmap.mmap(fds["data"], end, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    with memoryview(memory) as whole:
        crc32(whole[start:end])


def crc_read(piece: int) -> Work:
    def work(fds: Mapping[str, int], start: int, end: int) -> None:
        buffer, value = bytearray(piece), 0
        for at in range(start, end, piece):
            os.preadv(fds["data"], [buffer], at)
            value = crc32(buffer, value)

    return work


def loop(piece: int) -> Work:
    def work(fds: Mapping[str, int], start: int, end: int) -> None:
        buffer = bytearray(piece)
        for at in range(start, end, piece):
            os.preadv(fds["src"], [buffer], at)
            os.pwrite(fds["dst"], buffer, at)

    return work


def kernel(fds: Mapping[str, int], start: int, end: int) -> None:
    while start < end:
        start += os.copy_file_range(fds["src"], fds["dst"], min(end - start, 8 * MIB), start, start)


def cp(fds: Mapping[str, int], start: int, end: int) -> None:
    paths = [f"/proc/self/fd/{fds[role]}" for role in ("src", "dst")]
    subprocess.run(["cp", "--sparse=never", *paths], check=True, pass_fds=list(fds.values()))


def copied(fds: Mapping[str, int], start: int, end: int) -> None:
    source = mmap.mmap(fds["src"], end, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    with memoryview(source) as src, memoryview(mapped(fds["dst"], end)) as dst:
        dst[start:end] = src[start:end]


def written(fds: Mapping[str, int], start: int, end: int) -> None:
    """One copy from a mapping into the file."""
    source = mmap.mmap(fds["src"], end, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    with memoryview(source) as src:
        for at in range(start, end, MIB):
            os.pwrite(fds["dst"], src[at : at + MIB], at)


def read_into(fds: Mapping[str, int], start: int, end: int) -> None:
    """One copy from the file into a mapping."""
    with memoryview(mapped(fds["dst"], end)) as dst:
        for at in range(start, end, MIB):
            os.preadv(fds["src"], [dst[at : at + MIB]], at)


def zeros(fds: Mapping[str, int], start: int, end: int) -> None:
    pwrite(fds, start, end, 0)
