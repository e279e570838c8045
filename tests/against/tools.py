"""Other programs and libraries, with which each function is compared."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from anycrc import Model
from blake3 import blake3
from xxhash import xxh3_64, xxh64_intdigest

PIECE = 1 << 20


def tool(*words: str | Path, ok: tuple[int, ...] = (0,)) -> bytes:
    """The output of a program."""
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode in ok, (words, done.stderr)
    return done.stdout


def newlines(path: Path) -> int:
    """By wc."""
    return int(tool("wc", "-l", path).split()[0])


def pieces(path: Path) -> Any:
    """A file, piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def crc32(path: Path) -> int:
    """By zlib."""
    value = 0
    for piece in pieces(path):
        value = zlib.crc32(piece, value)
    return value


def crc32c(path: Path) -> int:
    """By anycrc."""
    model = Model("CRC32-ISCSI")
    value = model.calc(b"")
    for piece in pieces(path):
        value = model.calc(piece, value)
    return int(value)


def sha256(path: Path) -> str:
    """By sha256sum, which prints a backslash first if the name has a newline."""
    return tool("sha256sum", path).decode(errors="replace").lstrip("\\").split()[0]


def sha512(path: Path) -> str:
    """By OpenSSL, in one piece after the other."""
    hasher = hashlib.sha512()
    for piece in pieces(path):
        hasher.update(piece)
    return hasher.hexdigest()


def blake3_of(path: Path) -> str:
    """By the package, with all its threads."""
    hasher = blake3()
    for piece in pieces(path):
        hasher.update(piece)
    return hasher.hexdigest()


def blocks(path: Path, block: int, new: Any) -> list[str]:
    """A digest of each block."""
    found = []
    with path.open("rb") as file:
        while data := file.read(block):
            found.append(new(data).hexdigest())
    return found


def xxh3(path: Path, block: int) -> list[str]:
    """By xxhash; of an empty file no block."""
    return blocks(path, block, xxh3_64)


def xxh3_whole(path: Path) -> str:
    """Of all of it."""
    return str(xxh3_64(path.read_bytes()).hexdigest())


def sha256_blocks(path: Path, block: int) -> list[str]:
    """By hashlib."""
    return blocks(path, block, hashlib.sha256)


def same(left: Path, right: Path) -> bool:
    """By cmp."""
    return subprocess.run(["cmp", "-s", left, right], check=False).returncode == 0


def pzstd(path: Path, made: Path) -> None:
    """Compress a file into frames of 2 MiB."""
    tool("pzstd", "-1", "-q", "-f", path, "-o", made)


def seekable(path: Path, made: Path) -> None:
    """Compress a file into frames of 1 MiB without sizes, and add a seek table with checksums."""
    squeeze = zstandard.ZstdCompressor(level=1, write_content_size=False).compress
    rows = []
    with made.open("wb") as file:
        for piece in pieces(path):
            frame = squeeze(piece)
            file.write(frame)
            rows.append(struct.pack("<III", len(frame), len(piece), xxh64_intdigest(piece) & 0xFFFFFFFF))
        if not rows:
            file.write(squeeze(b""))
        file.write(struct.pack("<II", 0x184D2A5E, len(rows) * 12 + 9) + b"".join(rows))
        file.write(struct.pack("<IBI", len(rows), 0x80, 0x8F92EAB1))


def lines(path: Path, pattern: str) -> int:
    """By grep."""
    return int(tool("grep", "-a", "-c", "-F", pattern, path, ok=(0, 1)))


def matching(path: Path, pattern: str) -> list[tuple[int, bytes]]:
    """Lines and their positions, by grep."""
    found = tool("grep", "-a", "-b", "-F", pattern, path, ok=(0, 1))
    pairs = ((line + b"\n").partition(b":") for line in found.split(b"\n")[:-1])
    size = path.stat().st_size
    # grep ends a last line that the file does not end.
    return [(int(at), line[: size - int(at)]) for at, _, line in pairs]


def whole(path: Path) -> Any:
    """A mapping of a file that is not empty."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def total(path: Path) -> int:
    """By numpy, of unsigned bytes."""
    if not path.stat().st_size:
        return 0
    with whole(path) as mapped:
        return int(np.frombuffer(mapped, np.uint8).sum(dtype=np.uint64))


def storage(path: Path) -> int:
    """Bytes on its disk."""
    return os.stat(path).st_blocks * 512
