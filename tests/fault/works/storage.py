"""Functions that reserve and free storage, or fill the page cache."""

from __future__ import annotations

import os
import random
from pathlib import Path

from ktask.v1 import jobs_pb2 as pb

from tests.fault.work import GUARD, MIB, PAGE, Work, file, memory, noise, size_of

_BLOCK = 512
"""Unit of st_blocks. Source: stat(2)"""


def _storage(fd: int) -> int:
    """Bytes that the file or memory takes."""
    return os.fstat(fd).st_blocks * _BLOCK


def allocate(rng: random.Random, place: Path) -> Work:
    """Holes of a file or of memory, and sometimes beyond its end."""
    before = noise(rng, size_of(rng, 8, 24))
    size = len(before) + rng.choice([0, rng.randrange(1, 8 * MIB)])
    is_memory = rng.random() < 0.5
    fd = memory(before, rng) if is_memory else file(place, before, os.O_RDWR)
    # A file system keeps the block in which it records many extents.
    notes = 0 if is_memory else PAGE
    # Newly written data has no blocks on the disk yet, so none are counted for it.
    os.fsync(fd)
    had = _storage(fd)

    def about(work: Work, job: pb.Job) -> str:
        has = _storage(fd)
        if job.state == pb.JOB_STATE_SUCCEEDED:
            return "" if has >= size else f"target: {has} bytes of storage, wanted {size}"
        undone = work.fields.get("undo", True) and not job.error.dirty
        return (
            f"target: {has} bytes of storage after the undo, had {had}"
            if undone and has > had + notes
            else ""
        )

    fields = {"ranges": [{"length": str(size)}]}
    after, span = before + bytes(size - len(before)), (0, len(before))
    return Work("file.allocate", fields, {"data": fd}, [], fd, before, after, holes=span, about=about)


def punch(rng: random.Random, place: Path) -> Work:
    """A hole in a part of it; the data there is gone, however the job ends."""
    before = noise(rng, size_of(rng, 8, 24))
    start, length = GUARD, len(before) - 2 * GUARD
    fd = memory(before, rng) if rng.random() < 0.5 else file(place, before, os.O_RDWR)
    fields = {"ranges": [{"start": str(start), "length": str(length)}]}
    after = before[:start] + bytes(length) + before[start + length :]
    return Work("file.punch", fields, {"data": fd}, target=fd, before=before, after=after)


def warm(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 4, 16))
    drop = rng.random() < 0.5
    found = {"bytes": len(content), "skipped": 0}
    sources = {"data": file(place, content, os.O_RDONLY)}
    return Work("file.warm", {"arg": {"drop": drop}}, sources, result=found, more=True)


def compare(rng: random.Random, place: Path) -> Work:
    """Compare data that is equal, or has one difference."""
    content = noise(rng, size_of(rng, 4, 20))
    other, at = content, -1
    if rng.random() < 0.7:
        at = rng.randrange(len(content))
        other = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    found = {"equal": at < 0, "first_difference": at, "bytes": len(content)}
    sources = {"a": memory(content, rng), "b": memory(other, rng)}
    return Work("file.compare", sources=sources, result=found)
