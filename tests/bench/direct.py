"""The work of a program without a daemon, in one process: the same libraries, called directly."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import zstandard
from blake3 import blake3
from crc32c import crc32c
from isal.isal_zlib import crc32
from xxhash import xxh3_64
from zlib_ng import zlib_ng

PIECE = 256 << 10
"""Bytes of a file that are read at once: fits any L2 cache."""

FRAME = 1 << 20
"""The default frame size of file.compress."""

_POPULATE_WRITE = 23
"""Source: madvise(2), since Linux 5.14"""

_PUNCH_HOLE = 3
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE. Source: fallocate(2)"""


def _read(path: Path, use: Callable[[memoryview], object]) -> None:
    """Pass a file to `use`, piece by piece."""
    buffer = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            use(buffer[:count])


def sum_of(path: Path, add: Callable[[memoryview, int], int]) -> int:
    """A checksum of a file."""
    value = 0

    def use(piece: memoryview) -> None:
        nonlocal value
        value = add(piece, value)

    _read(path, use)
    return value


def file_crc32(path: Path) -> int:
    """By ISA-L."""
    return sum_of(path, crc32)


def file_crc32c(path: Path) -> int:
    """The checksum by the CPU's instruction."""
    return sum_of(path, crc32c)


def file_sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_sha512(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha512").hexdigest()


class Hasher(Protocol):
    """The methods of hashlib's objects."""

    def update(self, data: memoryview, /) -> object:
        """Add these bytes."""

    def hexdigest(self) -> str:
        """The digest so far."""


def new_blake3() -> Hasher:
    """On one thread."""
    hasher: Hasher = blake3(max_threads=1)
    return hasher


def file_blake3(path: Path) -> str:
    """The digest of a file."""
    hasher = new_blake3()
    _read(path, hasher.update)
    return hasher.hexdigest()


def file_xxh3(path: Path, block: int) -> list[str]:
    """Digests of the blocks of a file."""
    return blocks(path, block, xxh3_64)


def blocks(path: Path, block: int, new: Callable[[], Hasher]) -> list[str]:
    """Digests of the blocks of a file, whose length is a multiple of PIECE."""
    found = []
    buffer = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as stream:
        for _ in range(0, path.stat().st_size, block):
            hasher = new()
            for _ in range(block // PIECE):
                count = stream.readinto(buffer)
                hasher.update(buffer[:count])
            found.append(hasher.hexdigest())
    return found


def copy(source: Path, target: Path) -> None:
    """Copy a file to a new one, by the kernel."""
    with source.open("rb") as src, target.open("wb") as dst:
        while os.copy_file_range(src.fileno(), dst.fileno(), 1 << 30):
            pass


def compare(left: Path, right: Path) -> bool:
    """Whether two files are equal."""
    one, two = bytearray(PIECE), bytearray(PIECE)
    with left.open("rb", buffering=0) as a, right.open("rb", buffering=0) as b:
        while count := a.readinto(one):
            if b.readinto(two) != count or one != two:
                return False
    return True


def warm(path: Path) -> None:
    """Read a file into the page cache."""
    _read(path, len)


def allocate(path: Path, size: int) -> None:
    """Allocate storage for a new file."""
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


def punch(path: Path, size: int) -> None:
    """Turn a whole file into a hole."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as stream:
        arguments = (stream.fileno(), _PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(size))
        if libc.fallocate(*arguments):
            raise OSError(ctypes.get_errno(), "fallocate")


def compress(source: Path, target: Path, kind: str) -> None:
    """Compress a file in frames of 1 MiB, one after the other."""
    with source.open("rb") as src, target.open("wb") as dst:
        while piece := src.read(FRAME):
            if kind == "zstd":
                dst.write(zstandard.ZstdCompressor(level=3, write_checksum=True).compress(piece))
            else:
                dst.write(zlib_ng.compress(piece, 6, 16 + zlib_ng.MAX_WBITS))


def decompress(source: Path, target: Path) -> None:
    """Decompress a zstd file of any frames."""
    reader = zstandard.ZstdDecompressor().stream_reader
    with (
        source.open("rb") as src,
        target.open("wb") as dst,
        reader(src, read_across_frames=True) as stream,
    ):
        shutil.copyfileobj(stream, dst, PIECE)


def search(path: Path, needle: bytes) -> int:
    """The number of lines that match, counted in windows of whole lines."""
    count = 0
    with path.open("rb", buffering=0) as stream:
        rest = b""
        while piece := stream.read(PIECE):
            text, _, rest = (rest + piece).rpartition(b"\n")
            found = text.find(needle)
            while found >= 0:
                count += 1
                after = text.find(b"\n", found)
                found = text.find(needle, after) if after >= 0 else -1
    return count + (needle in rest)


def extract(path: Path, needle: bytes) -> bytes:
    """The lines that match."""
    with path.open("rb") as stream:
        return b"".join(line for line in stream if needle in line)


def total(memory: mmap.mmap) -> float:
    """The sum of float64s."""
    with np.errstate(all="ignore"):
        return float(np.frombuffer(memory, np.float64).sum())


def negate(memory: mmap.mmap) -> None:
    """Change each float64 in place."""
    numbers = np.frombuffer(memory, np.float64)
    np.negative(numbers, out=numbers)
    del numbers


def populate(memory: mmap.mmap) -> None:
    """Allocate pages of new memory."""
    memory.madvise(_POPULATE_WRITE)


def fill(memory: mmap.mmap, value: int) -> None:
    """Set every byte to the same value."""
    anchor = ctypes.c_char.from_buffer(memory)
    ctypes.memset(ctypes.addressof(anchor), value, len(memory))
    del anchor


def pattern(memory: mmap.mmap, record: bytes) -> None:
    """Write records that begin with a number of 8 bytes, by numpy."""
    count = len(memory) // len(record)
    rows = np.frombuffer(memory, np.uint8, count * len(record)).reshape(count, len(record))
    rows[:] = np.frombuffer(record, np.uint8)
    numbers = np.frombuffer(memory, "<u8", count * len(record) // 8).reshape(count, len(record) // 8)
    numbers[:, 0] = np.arange(count)
    del rows, numbers


def copy_memory(source: mmap.mmap, target: mmap.mmap) -> None:
    """Copy memory to memory."""
    with memoryview(source) as src, memoryview(target) as dst:
        dst[:] = src
