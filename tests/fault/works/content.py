"""Functions that transform whole content, search, sum and compress."""

from __future__ import annotations

import gzip
import os
import random
import struct
from pathlib import Path

import numpy as np
import zstandard
from ktask.v1 import jobs_pb2 as pb

from tests.fault.work import GUARD, MIB, Work, file, memory, noise, size_of


def search(rng: random.Random, place: Path) -> Work:
    lines = [b"%d brown fox %x\n" % (rng.randrange(1000), i) for i in range(rng.randrange(100_000, 400_000))]
    found = {"count": sum(b"17 brown" in line for line in lines)}
    sources = {"data": file(place, b"".join(lines), os.O_RDONLY)}
    return Work("text.search", {"arg": {"pattern": "17 brown"}}, sources, result=found)


def extract(rng: random.Random, place: Path) -> Work:
    lines = [b"%d brown fox %x\n" % (rng.randrange(1000), i) for i in range(rng.randrange(50_000, 200_000))]
    data = b"".join(lines)
    after = b"".join(line if b"17 brown" in line else bytes(len(line)) for line in lines)
    before = bytes(len(data))
    target = memory(before, rng)
    sources = {"data": file(place, data, os.O_RDONLY), "lines": target}
    found = {"count": sum(b"17 brown" in line for line in lines), "zero": -1}
    return Work(
        "text.extract",
        {"arg": {"pattern": "17 brown"}},
        sources,
        target=target,
        before=before,
        after=after,
        result=found,
    )


def search_items(rng: random.Random, place: Path) -> Work:
    pieces = [b"\n".join(noise(rng, 5000).split(b"a")) for _ in range(rng.randrange(1, 40))]
    found = [{"count": sum(b"x" in line for line in piece.split(b"\n"))} for piece in pieces]
    fields = {"min_chunk": "1", "arg": {"pattern": "x"}}
    fds = [memory(piece, rng) for piece in pieces]
    return Work("text.search", fields, items=fds, result={"items": found})


def total(rng: random.Random, place: Path) -> Work:
    content = noise(rng, _whole(size_of(rng, 8, 20)))
    value = int(np.frombuffer(content, "int16").sum(dtype="int64"))
    found = {"value": value, "exact": value, "count": len(content) // 2}
    fields = {"arg": {"dtype": "int16"}}
    return Work("array.reduce", fields, {"data": memory(content, rng)}, result=found)


def change(rng: random.Random, place: Path) -> Work:
    """In place, between what must not be touched."""
    before = noise(rng, _whole(size_of(rng, 8, 20)))
    start, length = GUARD, len(before) - 2 * GUARD
    fd = memory(before, rng) if rng.random() < 0.5 else file(place, before, os.O_RDWR)
    numbers = np.frombuffer(before[start : start + length], "uint8") + np.uint8(77)
    after = before[:start] + numbers.tobytes() + before[start + length :]
    fields = {
        "arg": {"dtype": "uint8", "ufunc": "add", "operand": "77"},
        "ranges": [{"start": str(start), "length": str(length)}],
    }
    return Work("array.map", fields, {"data": fd}, target=fd, before=before, after=after)


def _whole(size: int) -> int:
    return size // 8 * 8


def compress(rng: random.Random, place: Path) -> Work:
    """Its output is read by other tools."""
    content, kind = noise(rng, size_of(rng, 4, 16)), rng.choice(["zstd", "gzip"])
    src, dst = memory(content, rng), file(place, b"", os.O_RDWR)

    def about(work: Work, job: pb.Job) -> str:
        made = os.pread(dst, os.fstat(dst).st_size, 0)
        if job.state != pb.JOB_STATE_SUCCEEDED:
            return "" if not made or job.error.dirty else f"target: {len(made)} bytes are left"
        back = gzip.decompress(made) if kind == "gzip" else by_zstd(made, len(content))
        return "" if back == content else "target: is not what was compressed"

    fields = {"arg": {"format": kind, "level": 1, "frame": rng.randrange(1 << 16, 3 * MIB)}}
    found = {"bytes": len(content)}
    return Work("file.compress", fields, {"src": src, "dst": dst}, result=found, more=True, about=about)


def by_zstd(made: bytes, size: int) -> bytes:
    """All frames of it."""
    with zstandard.ZstdDecompressor().stream_reader(made, read_across_frames=True) as reader:
        return reader.read(size + 1)


def decompress(rng: random.Random, place: Path) -> Work:
    """Of several frames, or of one."""
    content = noise(rng, size_of(rng, 8, 20))
    step = rng.choice([MIB, len(content)])
    pieces = [content[first : first + step] for first in range(0, len(content), step)]
    squeeze = rng.choice([zstandard.ZstdCompressor(level=1).compress, lambda piece: gzip.compress(piece, 1)])
    made = b"".join(map(squeeze, pieces))
    if made.startswith(b"\x28\xb5\x2f\xfd") and rng.random() < 0.5:
        # A wrong seek table, with one frame for all: that is detected, and the data written again.
        size = len(content) - rng.randrange(2)
        made += struct.pack("<5IBI", 0x184D2A5E, 17, len(made), size, 1, 0, 0x8F92EAB1)
    dst = file(place, b"", os.O_RDWR)
    sources = {"src": memory(made, rng), "dst": dst}
    found = {"bytes": len(content), "compressed": len(made)}
    return Work(
        "file.decompress", sources=sources, target=dst, before=b"", after=content, result=found, more=True
    )
