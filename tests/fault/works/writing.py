"""Functions that copy, fill and populate."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

from tests.fault.work import GUARD, Work, file, memory, noise, size_of


def _copy(source: int, content: bytes, target: int, before: bytes) -> Work:
    sources = {"src": source, "dst": target}
    span = (0, len(content))
    return Work("file.copy", sources=sources, target=target, before=before, after=content, holes=span)


def copy_files(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 4, 16))
    source, target = file(place, content, os.O_RDONLY), file(place, b"", os.O_RDWR)
    return _copy(source, content, target, b"")


def copy_memory(rng: random.Random, place: Path) -> Work:
    """Copy to a new file, or over a shorter or longer one; with its checksum."""
    content = noise(rng, size_of(rng, 8, 20))
    before = noise(rng, size_of(rng, 1, 22)) if rng.random() < 0.5 else b""
    work = _copy(memory(content, rng), content, file(place, before, os.O_RDWR), before)
    work.fields["arg"] = {"checksum": True}
    work.result = {"bytes": len(content), "crc32": zlib.crc32(content)}
    return work


def copy_part(rng: random.Random, place: Path) -> Work:
    """Copy ranges of memory to memory."""
    size = size_of(rng, 12, 20)
    content, before = noise(rng, size), noise(rng, size)
    half = size // 2 // GUARD * GUARD
    spans = [(GUARD, half - 2 * GUARD), (half + GUARD, size - half - 2 * GUARD)]
    after = bytearray(before)
    for start, length in spans:
        after[start : start + length] = content[start : start + length]
    work = _copy(memory(content, rng), bytes(after), memory(before, rng), before)
    work.fields["ranges"] = [{"start": str(start), "length": str(length)} for start, length in spans]
    return work


def fill(rng: random.Random, place: Path) -> Work:
    before = noise(rng, size_of(rng, 8, 24))
    start, length = GUARD, len(before) - 2 * GUARD
    value = rng.randrange(256)
    fd = memory(before, rng) if rng.random() < 0.7 else file(place, before, os.O_RDWR)
    fields = {"arg": {"value": value}, "ranges": [{"start": str(start), "length": str(length)}]}
    after = before[:start] + bytes([value]) * length + before[start + length :]
    return Work("mem.fill", fields, {"data": fd}, target=fd, before=before, after=after)


def populate(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 8, 24))
    fd = memory(content, rng)
    sources = {"data": fd}
    span = (0, len(content))
    return Work("mem.populate", sources=sources, target=fd, before=content, after=content, holes=span)


def copy_in_memory(rng: random.Random, place: Path) -> Work:
    """Copy memory over memory with holes; where the target is all holes, the undo has nothing to restore."""
    content = noise(rng, size_of(rng, 8, 20))
    before = noise(rng, size_of(rng, 1, 20)) if rng.random() < 0.3 else bytes(len(content))
    after = content if len(before) <= len(content) else content + before[len(content) :]
    work = _copy(memory(content, rng), after, memory(before, rng), before)
    work.function = "mem.copy"
    work.fields["ranges"] = [{"length": str(len(content))}]
    return work


def pattern(rng: random.Random, place: Path) -> Work:
    """Write records with numbers into holes or over noise."""
    size = size_of(rng, 8, 20)
    before = bytes(size) if rng.random() < 0.7 else noise(rng, size)
    record = rng.randbytes(rng.randrange(12, 200))
    at, first = rng.randrange(len(record) - 8), rng.randrange(1 << 40)
    start, length = GUARD, size - 2 * GUARD
    numbers = range(first, first + size // len(record) + 1)
    printed = b"".join(record[:at] + number.to_bytes(8, "little") + record[at + 8 :] for number in numbers)
    fields = {
        "arg": {"record": record.hex(), "index_at": at, "index_first": first},
        "ranges": [{"start": str(start), "length": str(length)}],
    }
    fd = memory(before, rng)
    after = before[:start] + printed[start : start + length] + before[start + length :]
    span = (start, start + length)
    return Work("mem.pattern", fields, {"data": fd}, target=fd, before=before, after=after, holes=span)
