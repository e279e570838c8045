"""Functions that compute checksums and digests."""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from pathlib import Path
from typing import Any

from blake3 import blake3
from crc32c import crc32c
from xxhash import xxh3_64

from tests.fault.work import MIB, Work, file, memory, noise, size_of


def crc_memory(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 8, 20))
    found = {"crc32": zlib.crc32(content), "bytes": len(content)}
    return Work("file.crc32", sources={"data": memory(content, rng)}, result=found)


def crc_holes(rng: random.Random, place: Path) -> Work:
    """Large, and takes no memory."""
    size = 128 * MIB
    found = {"crc32": zlib.crc32(bytes(size)), "bytes": size}
    return Work("file.crc32", sources={"data": memory(size, rng)}, result=found)


def crc_file(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 4, 16))
    found = {"crc32": zlib.crc32(content), "bytes": len(content)}
    return Work("file.crc32", sources={"data": file(place, content, os.O_RDONLY)}, result=found)


def crc_items(rng: random.Random, place: Path) -> Work:
    pieces = [noise(rng, rng.randrange(1, 2 * MIB)) for _ in range(rng.randrange(1, 40))]
    found = [{"crc32": zlib.crc32(piece), "bytes": len(piece)} for piece in pieces]
    fds = [memory(piece, rng) for piece in pieces]
    return Work("file.crc32", {"min_chunk": "1"}, items=fds, result={"items": found})


def crc32c_memory(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 8, 20))
    found = {"crc32c": crc32c(content), "bytes": len(content)}
    return Work("file.crc32c", sources={"data": memory(content, rng)}, result=found)


def sha256_items(rng: random.Random, place: Path) -> Work:
    return _digest_items("sha256", rng)


def sha512_items(rng: random.Random, place: Path) -> Work:
    return _digest_items("sha512", rng)


def blake3_items(rng: random.Random, place: Path) -> Work:
    return _digest_items("blake3", rng)


def xxh3_items(rng: random.Random, place: Path) -> Work:
    return _digest_items("xxh3", rng)


def _digest_items(name: str, rng: random.Random) -> Work:
    """Whole files."""
    pieces = [noise(rng, rng.randrange(1, 4 * MIB)) for _ in range(rng.randrange(1, 12))]
    found = [{name: _digest(name, piece), "bytes": len(piece)} for piece in pieces]
    fds = [memory(piece, rng) for piece in pieces]
    return Work(f"file.{name}", {"min_chunk": "1"}, items=fds, result={"items": found})


def one_digest(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 4, 16))
    found = {"sha256": _digest("sha256", content), "bytes": len(content)}
    return Work("file.sha256", sources={"data": file(place, content, os.O_RDONLY)}, result=found)


def manifest_blocks(rng: random.Random, place: Path) -> Work:
    content = noise(rng, size_of(rng, 4, 16))
    name, block = rng.choice(["sha256", "blake3"]), rng.randrange(64 << 10, 3 * MIB)
    pieces = _blocks(content, block)
    found = [{"digest": _digest(name, piece), "bytes": len(piece)} for piece in pieces]
    fields = {"arg": {"algorithm": name, "block": block}}
    return Work("file.manifest", fields, {"data": memory(content, rng)}, result={"items": found})


def verify_blocks(rng: random.Random, place: Path) -> Work:
    """Some digests are wrong, and those are reported."""
    content = noise(rng, size_of(rng, 4, 16))
    block = rng.randrange(64 << 10, 3 * MIB)
    pieces = _blocks(content, block)
    digests = [_digest("sha256", piece) for piece in pieces]
    wanted = [digest if rng.random() < 0.7 else "ab" * 32 for digest in digests]
    found: list[dict[str, Any]] = [
        {"ok": True, "bytes": len(piece)}
        if digest == expected
        else {"ok": False, "bytes": len(piece), "digest": digest, "wanted": expected}
        for piece, digest, expected in zip(pieces, digests, wanted, strict=True)
    ]
    expected_fd = memory(b"".join(map(bytes.fromhex, wanted)), rng)
    sources = {"data": memory(content, rng), "expected": expected_fd}
    return Work("file.verify", {"arg": {"block": block}}, sources, result={"items": found})


def _blocks(content: bytes, block: int) -> list[bytes]:
    return [content[start : start + block] for start in range(0, len(content), block)]


def _digest(name: str, content: bytes) -> str:
    hashers: dict[str, Any] = {
        "sha256": hashlib.sha256,
        "sha512": hashlib.sha512,
        "blake3": blake3,
        "xxh3": xxh3_64,
    }
    return str(hashers[name](content).hexdigest())
