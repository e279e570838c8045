"""Jobs of known result for the campaign, over all functions, and what their targets must hold."""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3
from crc32c import crc32c
from ktask.v1 import jobs_pb2 as pb
from xxhash import xxh3_64

from tests.fault.compare import UNDONE, first_difference

MIB = 1 << 20
GUARD = 64 << 10
"""Bytes on both sides of what a job writes."""

MEMFD = "campaign"
FILE = "campaign-"
"""How the sources are called, or begin, so that they are known among descriptors."""

_NOISE = random.Random(11).randbytes(24 * MIB)


@dataclass
class Work:
    """One job to be; owns its descriptors.

    Args:
        sources, items: descriptors, by role and in order.
        target: the descriptor that it writes; -1 = none.
        before, after: what that holds, and what it must hold when all went well.
        fails: it cannot succeed.
        counts: its undo does not put back, but adds to each byte; up to `end`.
    """

    function: str
    fields: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    items: list[int] = field(default_factory=list)
    target: int = -1
    before: bytes = b""
    after: bytes = b""
    result: dict[str, Any] | None = None
    fails: bool = False
    counts: bool = False
    kind: str = ""

    def close(self) -> None:
        """Close its descriptors."""
        for fd in {*self.sources.values(), *self.items}:
            os.close(fd)

    def read(self) -> bytes:
        """What the target holds now."""
        return os.pread(self.target, os.fstat(self.target).st_size, 0) if self.target >= 0 else b""

    def wrong(self, job: pb.Job) -> list[str]:
        """What of the target and the result is not as the ended job says."""
        found = []
        succeeded = job.state == pb.JOB_STATE_SUCCEEDED
        dirty = [(span.start, span.end) for span in job.error.dirty]
        content, wanted = self.read(), self.after if succeeded else self.before
        if self.counts and not succeeded:
            content = bytes(0 if byte in UNDONE else byte for byte in content)
        if len(content) != len(wanted) and not dirty:
            found.append(f"target: {len(content)} bytes long, wanted {len(wanted)}")
        difference = first_difference(content, wanted, dirty)
        if difference:
            found.append(f"target: {difference}")
        if succeeded and self.result is not None and not _same(job.result, self.result):
            found.append(f"result: got {job.result}, wanted {self.result}")
        return found


def _same(got: Any, wanted: Mapping[str, Any]) -> bool:
    from google.protobuf import json_format

    return bool(json_format.MessageToDict(got) == _as_json(wanted))


def _as_json(value: Any) -> Any:
    """Numbers as protobuf has them."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


# -- what they work on -----------------------------------------------------------


def _memory(content: bytes | int, rng: random.Random) -> int:
    """Memory with this content, or so many holes; sometimes sealed, so that workers map it."""
    import fcntl

    fd = os.memfd_create(MEMFD, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    if isinstance(content, int):
        os.truncate(fd, content)
    else:
        os.truncate(fd, len(content))
        _write_data(fd, content)
    if rng.random() < 0.5:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def _file(place: Path, content: bytes, flags: int) -> int:
    """A file that has no name any more."""
    path = place / f"{FILE}{random.getrandbits(64):x}"
    with path.open("wb") as stream:
        stream.truncate(len(content))
        _write_data(stream.fileno(), content)
    fd = os.open(path, flags | os.O_CLOEXEC)
    path.unlink()
    return fd


def _write_data(fd: int, content: bytes) -> None:
    """Write what is not zero, so that the rest stays holes."""
    zeros = bytes(MIB)
    for start in range(0, len(content), MIB):
        piece = content[start : start + MIB]
        if piece != zeros[: len(piece)]:
            os.pwrite(fd, piece, start)


def _content(rng: random.Random, size: int) -> bytes:
    """Noise with holes in it."""
    shift = rng.randrange(len(_NOISE) - size) if size < len(_NOISE) else 0
    content = bytearray(_NOISE[shift : shift + size])
    for _ in range(rng.randrange(4)):
        start = rng.randrange(size // MIB + 1) * MIB
        length = len(content[start : start + 2 * MIB])
        content[start : start + length] = bytes(length)
    return bytes(content)


def _size(rng: random.Random, least_mib: int, most_mib: int) -> int:
    return rng.randrange(least_mib * MIB, most_mib * MIB)


# -- the jobs --------------------------------------------------------------------------


def crc_memory(rng: random.Random, place: Path) -> Work:
    content = _content(rng, _size(rng, 8, 20))
    found = {"crc32": zlib.crc32(content), "bytes": len(content)}
    return Work("file.crc32", sources={"data": _memory(content, rng)}, result=found)


def crc_holes(rng: random.Random, place: Path) -> Work:
    """Large, and takes no memory."""
    size = 128 * MIB
    found = {"crc32": zlib.crc32(bytes(size)), "bytes": size}
    return Work("file.crc32", sources={"data": _memory(size, rng)}, result=found)


def crc_file(rng: random.Random, place: Path) -> Work:
    content = _content(rng, _size(rng, 4, 16))
    found = {"crc32": zlib.crc32(content), "bytes": len(content)}
    return Work("file.crc32", sources={"data": _file(place, content, os.O_RDONLY)}, result=found)


def crc_items(rng: random.Random, place: Path) -> Work:
    pieces = [_content(rng, rng.randrange(1, 2 * MIB)) for _ in range(rng.randrange(1, 40))]
    found = [{"crc32": zlib.crc32(piece), "bytes": len(piece)} for piece in pieces]
    fds = [_memory(piece, rng) for piece in pieces]
    return Work("file.crc32", {"min_chunk": "1"}, items=fds, result={"items": found})


def crc32c_memory(rng: random.Random, place: Path) -> Work:
    content = _content(rng, _size(rng, 8, 20))
    found = {"crc32c": crc32c(content), "bytes": len(content)}
    return Work("file.crc32c", sources={"data": _memory(content, rng)}, result=found)


def digest_items(rng: random.Random, place: Path) -> Work:
    """Whole files, by one of the digests."""
    name = rng.choice(["sha256", "blake3", "xxh3"])
    pieces = [_content(rng, rng.randrange(1, 4 * MIB)) for _ in range(rng.randrange(1, 12))]
    found = [{name: _digest(name, piece), "bytes": len(piece)} for piece in pieces]
    fds = [_memory(piece, rng) for piece in pieces]
    return Work(f"file.{name}", {"min_chunk": "1"}, items=fds, result={"items": found})


def one_digest(rng: random.Random, place: Path) -> Work:
    content = _content(rng, _size(rng, 4, 16))
    found = {"sha256": _digest("sha256", content), "bytes": len(content)}
    return Work("file.sha256", sources={"data": _file(place, content, os.O_RDONLY)}, result=found)


def manifest_blocks(rng: random.Random, place: Path) -> Work:
    content = _content(rng, _size(rng, 4, 16))
    name, block = rng.choice(["sha256", "blake3"]), rng.randrange(64 << 10, 3 * MIB)
    pieces = _blocks(content, block)
    found = [{"digest": _digest(name, piece), "bytes": len(piece)} for piece in pieces]
    fields = {"arg": {"algorithm": name, "block": block}}
    return Work("file.manifest", fields, {"data": _memory(content, rng)}, result={"items": found})


def verify_blocks(rng: random.Random, place: Path) -> Work:
    """Some digests are wrong, and those are told."""
    content = _content(rng, _size(rng, 4, 16))
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
    expected_fd = _memory(b"".join(map(bytes.fromhex, wanted)), rng)
    sources = {"data": _memory(content, rng), "expected": expected_fd}
    return Work("file.verify", {"arg": {"block": block}}, sources, result={"items": found})


def _blocks(content: bytes, block: int) -> list[bytes]:
    return [content[start : start + block] for start in range(0, len(content), block)]


def _digest(name: str, content: bytes) -> str:
    hashers: dict[str, Any] = {"sha256": hashlib.sha256, "blake3": blake3, "xxh3": xxh3_64}
    return str(hashers[name](content).hexdigest())


def _copy(source: int, content: bytes, target: int, before: bytes) -> Work:
    return Work(
        "file.copy", sources={"src": source, "dst": target}, target=target, before=before, after=content
    )


def copy_files(rng: random.Random, place: Path) -> Work:
    content = _content(rng, _size(rng, 4, 16))
    source, target = _file(place, content, os.O_RDONLY), _file(place, b"", os.O_RDWR)
    return _copy(source, content, target, b"")


def copy_memory(rng: random.Random, place: Path) -> Work:
    """Into a new file, or over one that is shorter or longer."""
    content = _content(rng, _size(rng, 8, 20))
    before = _content(rng, _size(rng, 1, 22)) if rng.random() < 0.5 else b""
    return _copy(_memory(content, rng), content, _file(place, before, os.O_RDWR), before)


def copy_part(rng: random.Random, place: Path) -> Work:
    """Ranges of memory to memory."""
    size = _size(rng, 12, 20)
    content, before = _content(rng, size), _content(rng, size)
    half = size // 2 // GUARD * GUARD
    spans = [(GUARD, half - 2 * GUARD), (half + GUARD, size - half - 2 * GUARD)]
    after = bytearray(before)
    for start, length in spans:
        after[start : start + length] = content[start : start + length]
    work = _copy(_memory(content, rng), bytes(after), _memory(before, rng), before)
    work.fields["ranges"] = [{"start": str(start), "length": str(length)} for start, length in spans]
    return work


def fill(rng: random.Random, place: Path) -> Work:
    before = _content(rng, _size(rng, 8, 24))
    start, length = GUARD, len(before) - 2 * GUARD
    value = rng.randrange(256)
    fd = _memory(before, rng) if rng.random() < 0.7 else _file(place, before, os.O_RDWR)
    fields = {"arg": {"value": value}, "ranges": [{"start": str(start), "length": str(length)}]}
    after = before[:start] + bytes([value]) * length + before[start + length :]
    return Work("mem.fill", fields, {"data": fd}, target=fd, before=before, after=after)


def populate(rng: random.Random, place: Path) -> Work:
    content = _content(rng, _size(rng, 8, 24))
    fd = _memory(content, rng)
    return Work("mem.populate", sources={"data": fd}, target=fd, before=content, after=content)


def spin(rng: random.Random, place: Path) -> Work:
    length = str(rng.randrange(5, 60))
    return Work("selftest.spin", {"arg": {"ms": 1.0}, "ranges": [{"length": length}]})


def noop(rng: random.Random, place: Path) -> Work:
    return Work("selftest.noop", {"ranges": [{"length": str(rng.randrange(1, 100_000))}]})


def _log(rng: random.Random, fail_at: int, size: int) -> Work:
    fd = _memory(size + GUARD, rng)
    before = bytes(size + GUARD)
    fields = {
        "arg": {"fail_at": fail_at, "record": rng.randrange(1, 20)},
        "ranges": [{"length": str(size)}],
        "min_chunk": str(rng.randrange(1, 2000)),
    }
    return Work(
        "selftest.undo_log",
        fields,
        {"data": fd},
        target=fd,
        before=before,
        after=b"\1" * size + before[size:],
        fails=fail_at >= 0,
        counts=True,
    )


def log(rng: random.Random, place: Path) -> Work:
    return _log(rng, -1, rng.randrange(1_000, 8_000))


def bad_log(rng: random.Random, place: Path) -> Work:
    size = rng.randrange(1_000, 8_000)
    return _log(rng, rng.randrange(size), size)


MAKERS: Sequence[Callable[[random.Random, Path], Work]] = (
    crc_memory,
    crc_holes,
    crc_file,
    crc_items,
    crc32c_memory,
    digest_items,
    one_digest,
    manifest_blocks,
    verify_blocks,
    copy_files,
    copy_memory,
    copy_part,
    fill,
    populate,
    spin,
    noop,
    log,
    bad_log,
)


def make(i: int, seed: int, place: Path) -> Work:
    """The work number `i`: all kinds in turn, each different every time."""
    rng = random.Random(f"{seed}/{i}")
    maker = MAKERS[i % len(MAKERS)]
    work = maker(rng, place)
    work.kind = maker.__name__
    if rng.random() < 0.5:
        work.fields["max_threads"] = rng.choice([1, 2, 3, 16])
    if rng.random() < 0.1:
        work.fields["undo"] = False
    return work
