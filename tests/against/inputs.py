"""The files on which functions are tried."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ODD_NAME = b"not UTF-8 \xff\xfe\n.txt"


def content(size: int) -> bytes:
    """Lines of text and lines of noise."""
    rng = random.Random(size)
    pieces = [
        b"%d the quick brown fox\n" % i * 20 if i % 3 else rng.randbytes(500) for i in range(size // 400)
    ]
    return (b"".join(pieces) + rng.randbytes(size))[:size]


def files(directory: Path, chunk: int, sparse: int) -> Iterator[tuple[str, Path]]:
    """Of every interesting length, with a name that is not UTF-8, and with holes.

    Args:
        chunk: of the function.
        sparse: length of the last one.
    """
    for name, size in (
        ("empty", 0),
        ("one byte", 1),
        ("chunk - 1", chunk - 1),
        ("chunk", chunk),
        ("chunk + 1", chunk + 1),
    ):
        path = directory / os.fsdecode(ODD_NAME)
        path.write_bytes(content(size))
        yield f"{name} ({size})", path
    path = directory / "sparse"
    with path.open("wb") as file:
        file.truncate(sparse)
        for at in (4 * KIB, sparse // 2 - 3, sparse - 100):
            file.seek(at)
            file.write(content(90))
    yield f"sparse ({sparse})", path
    path.unlink()


def many(directory: Path, count: int) -> list[Path]:
    """Small files, some of them empty, all in one directory."""
    directory.mkdir()
    paths = []
    for i in range(count):
        path = directory / os.fsdecode(b"%05d \xe9" % i)
        path.write_bytes(b"file %d\n" % i * (i % 50))
        paths.append(path)
    return paths
