"""One check for each function: its result for a file equals the tool's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ktask
import numpy as np

from tests.against import tools
from tests.against.inputs import MIB

BLOCK = MIB
STEP = 4 * MIB
RECORD = bytes(range(7, 20))


class Place:
    """A client, and a directory for output."""

    def __init__(self, client: ktask.Client, directory: Path) -> None:
        self.client = client
        self.directory = directory

    def run(self, name: str, arg: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """The result of a job."""
        return dict(self.client.run(name, arg=arg, **fields).result or {})

    def target(self, copy_of: Path | None = None) -> Path:
        """A new empty file, or a copy with the same holes."""
        path = self.directory / "target"
        path.unlink(missing_ok=True)
        if copy_of is not None:
            tools.tool("cp", "--sparse=always", copy_of, path)
        return path


Check = Callable[[Place, Path], bool]


def _value(name: str, wanted: Callable[[Path], object], key: str) -> Check:
    return lambda p, path: p.run(name, data=path)[key] == wanted(path)


def _one(name: str, wanted: Callable[[Path], object], key: str) -> Check:
    return lambda p, path: p.run(name, data=path)[key] == wanted(path)


def _xxh3(p: Place, path: Path) -> bool:
    found = p.run("file.xxh3", data=path, arg={"block": BLOCK})
    return [item["xxh3"] for item in found.get("items", ())] == tools.xxh3(path, BLOCK)


def _block_for(path: Path) -> int:
    """So few that all fit into one answer."""
    return max(BLOCK, path.stat().st_size // 256)


def _manifest(p: Place, path: Path) -> bool:
    block = _block_for(path)
    found = p.run("file.manifest", data=path, arg={"block": block})
    return [item["digest"] for item in found.get("items", ())] == tools.sha256_blocks(path, block)


def _verify(p: Place, path: Path) -> bool:
    block = _block_for(path)
    expected = p.directory / "expected"
    expected.write_bytes(b"".join(map(bytes.fromhex, tools.sha256_blocks(path, block))))
    found = p.run("file.verify", data=path, expected=expected, arg={"block": block})
    return all(item["ok"] for item in found.get("items", ()))


def _copy(p: Place, path: Path) -> bool:
    """By the kernel, and once more with zlib's sum."""
    target = p.target()
    p.run("file.copy", src=path, dst=target)
    same = tools.same(path, target) and tools.storage(target) <= tools.storage(path) + MIB
    target = p.target()
    found = p.run("file.copy", {"checksum": True}, src=path, dst=target)
    return same and tools.same(path, target) and int(found["crc32"]) == tools.crc32(path)


def _compare(p: Place, path: Path) -> bool:
    """Against itself, then with a byte changed, which cmp counts from 1."""
    target, size = p.target(path), path.stat().st_size
    equal = p.run("file.compare", a=path, b=target)["equal"]
    if not size:
        return bool(equal)
    with target.open("r+b") as file:
        file.seek(size * 2 // 3)
        byte = file.read(1)[0]
        file.seek(size * 2 // 3)
        file.write(bytes([byte ^ 1]))
    at = p.run("file.compare", a=path, b=target)["first_difference"]
    # "byte" or "char" before it, by the language.
    return bool(equal) and b" %d, line" % (int(at) + 1) in tools.tool("cmp", path, target, ok=(1,))


def _warm(p: Place, path: Path) -> bool:
    """The whole file is read; fincore reports which pages are in memory."""
    found = p.run("file.warm", data=path)
    said = tools.tool("fincore", "--bytes", "--noheadings", "--output", "RES", path).split()
    return int(found["bytes"]) == path.stat().st_size and int(said[0]) >= int(found["resident_after"] or 0)


def _allocate(p: Place, path: Path) -> bool:
    target, size = p.target(path), path.stat().st_size
    p.run("file.allocate", data=target)
    return tools.same(path, target) and tools.storage(target) >= size


def _punch(p: Place, path: Path) -> bool:
    """The same result as fallocate --punch-hole."""
    target, other, size = p.target(path), p.directory / "punched", path.stat().st_size
    shutil.copy(path, other)
    if size:
        p.run("file.punch", data=target, ranges=[(0, size)])
        tools.tool("fallocate", "--punch-hole", "--offset", "0", "--length", str(size), other)
    same = tools.same(target, other)
    other.unlink()
    return same and tools.storage(target) <= 4096


def _compress(kind: str) -> Check:
    def check(p: Place, path: Path) -> bool:
        made, back = p.target(), p.directory / "back"
        p.run("file.compress", src=path, dst=made, arg={"format": kind})
        with back.open("wb") as file, made.open("rb") as source:
            words = {"zstd": ["zstd", "-dcq", "--sparse"], "gzip": ["gzip", "-dc"]}[kind]
            subprocess.run(words, stdin=source, stdout=file, check=True)
        same = tools.same(path, back)
        back.unlink()
        return same

    return check


def _decompress(make: Callable[[Path, Path], object], unpack: Sequence[str]) -> Check:
    """The output of `make` decompresses to the same bytes as with the tool."""

    def check(p: Place, path: Path) -> bool:
        made, target, other = p.directory / "made", p.target(), p.directory / "other"
        made.unlink(missing_ok=True)
        make(path, made)
        p.run("file.decompress", src=made, dst=target)
        with other.open("wb") as file, made.open("rb") as source:
            subprocess.run(unpack, stdin=source, stdout=file, check=True)
        same = tools.same(path, target) and tools.same(other, target)
        other.unlink()
        return same

    return check


def _by(*words: str) -> Callable[[Path, Path], object]:
    def make(path: Path, made: Path) -> None:
        with made.open("wb") as file, path.open("rb") as source:
            subprocess.run(words, stdin=source, stdout=file, check=True)

    return make


def _search(p: Place, path: Path) -> bool:
    found = p.run("text.search", data=path, arg={"pattern": "7 the quick"})
    return int(found["count"]) == tools.lines(path, "7 the quick")


def _extract(p: Place, path: Path) -> bool:
    content, pattern = path.read_bytes(), "7 the quick"
    with ktask.memory(max(len(content), 1)) as memory:
        p.run("text.extract", data=path, lines=memory, arg={"pattern": pattern})
        written = bytes(memory)[: len(content)]
    expected = bytearray(len(content))
    for at, line in tools.matching(path, pattern):
        expected[at : at + len(line)] = line
    return written == bytes(expected)


def _map(p: Place, path: Path) -> bool:
    target = p.target(path)
    p.run("array.map", data=target, arg={"dtype": "uint8", "ufunc": "add", "operand": "5"})
    return all(
        (np.frombuffer(a, np.uint8) + np.uint8(5)).tobytes() == b
        for a, b in zip(tools.pieces(path), tools.pieces(target), strict=True)
    )


def _reduce(p: Place, path: Path) -> bool:
    found = p.run("array.reduce", data=path, arg={"dtype": "uint8"})
    return int(found["value"]) == tools.total(path)


def _in_memory(path: Path) -> ktask.Memory:
    memory = ktask.memory(max(path.stat().st_size, 1))
    at = 0
    for piece in tools.pieces(path):
        if piece.count(0) != len(piece):
            memory[at : at + len(piece)] = piece
        at += len(piece)
    return memory


def _equal(memory: ktask.Memory, path: Path) -> bool:
    at = 0
    for piece in tools.pieces(path):
        if memory[at : at + len(piece)] != piece:
            return False
        at += len(piece)
    return True


def _mem_copy(p: Place, path: Path) -> bool:
    with _in_memory(path) as source, ktask.memory(len(source)) as target:
        p.run("mem.copy", src=source, dst=target)
        return _equal(target, path)


def _fill(p: Place, path: Path) -> bool:
    with _in_memory(path) as memory:
        p.run("mem.fill", data=memory, arg={"value": 9})
        return all(
            memory[at : at + MIB] == bytes([9]) * len(memory[at : at + MIB])
            for at in range(0, len(memory), MIB)
        )


def _populate(p: Place, path: Path) -> bool:
    with _in_memory(path) as memory:
        p.run("mem.populate", data=memory)
        return _equal(memory, path) and os.fstat(memory.fd).st_blocks * 512 >= len(memory)


def _pattern(p: Place, path: Path) -> bool:
    with _in_memory(path) as memory:
        p.run("mem.pattern", data=memory, arg={"record": RECORD.hex()})
        step = len(RECORD) << 16
        wanted = RECORD * (1 << 16)
        return all(
            memory[at : at + step] == wanted[: len(memory[at : at + step])]
            for at in range(0, len(memory), step)
        )


def _lines_in(path: Path, start: int) -> int:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(STEP).count(b"\n")


def _count(data: Any, start: int, end: int, arg: None) -> int:
    return sum(data.read(at, min(at + MIB, end)).count(b"\n") for at in range(start, end, MIB))


def _own(p: Place, path: Path) -> bool:
    found = p.client.run(_count, data=path, combine=sum).result or {}
    return int(found["value"]) == tools.newlines(path)


def _calls(p: Place, path: Path) -> bool:
    starts = range(0, path.stat().st_size, STEP)
    return sum(p.client.map(_lines_in, [path] * len(starts), starts)) == tools.newlines(path)


_UNZSTD = ("zstd", "-dcq", "--sparse")

CHECKS: Mapping[str, tuple[str, Check]] = {
    "file.crc32": ("zlib", _value("file.crc32", tools.crc32, "crc32")),
    "file.crc32c": ("anycrc", _value("file.crc32c", tools.crc32c, "crc32c")),
    "file.sha256": ("sha256sum", _one("file.sha256", tools.sha256, "sha256")),
    "file.sha512": ("hashlib", _one("file.sha512", tools.sha512, "sha512")),
    "file.blake3": ("blake3", _one("file.blake3", tools.blake3_of, "blake3")),
    "file.xxh3": ("xxhash", _xxh3),
    "file.manifest": ("hashlib", _manifest),
    "file.verify": ("hashlib", _verify),
    "file.copy": ("cmp, zlib", _copy),
    "file.compare": ("cmp", _compare),
    "file.warm": ("fincore", _warm),
    "file.allocate": ("cmp, stat", _allocate),
    "file.punch": ("fallocate", _punch),
    "file.compress zstd": ("zstd -d", _compress("zstd")),
    "file.compress gzip": ("gzip -d", _compress("gzip")),
    "file.decompress zstd": ("zstd", _decompress(_by("zstd", "-cq", "-1"), _UNZSTD)),
    "file.decompress pzstd": ("pzstd, zstd", _decompress(tools.pzstd, _UNZSTD)),
    "file.decompress seekable": ("zstandard, zstd", _decompress(tools.seekable, _UNZSTD)),
    "file.decompress gzip": ("gzip", _decompress(_by("gzip", "-c1"), ("gzip", "-dc"))),
    "python.run": ("wc -l", _own),
    "python.calls": ("wc -l", _calls),
    "text.search": ("grep -c", _search),
    "text.extract": ("grep", _extract),
    "array.reduce": ("numpy", _reduce),
    "array.map": ("numpy", _map),
    "mem.copy": ("mmap", _mem_copy),
    "mem.fill": ("mmap", _fill),
    "mem.pattern": ("mmap", _pattern),
    "mem.populate": ("mmap, stat", _populate),
}
"""By function, and a word where it has two: the tool, and the check."""
