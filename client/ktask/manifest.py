"""The text of a manifest: lines that `sha256sum -c` or `b3sum -c` accept, and digests of blocks. Pure.

A huge file may have a digest for each block instead of one of the whole. These are
comments to sha256sum: a head with the file's name, and a line for each block.

    # ktask blocks algorithm=sha256 block=67108864 bytes=200000000 root=HEX  NAME
    # HEX

The root is the digest of the blocks' digests, as bytes one after the other.

Source: the output format of cksum(1), "escaped" names included
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

ALGORITHMS = ("sha256", "blake3")

_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)", re.DOTALL)
_HEAD = re.compile(
    rb"(\\?)# ktask blocks algorithm=(\w+) block=(\d{1,15}) bytes=(\d{1,18}) root=([0-9a-f]{64})  (.+)",
    re.DOTALL,
)
_BLOCK = re.compile(rb"# ([0-9a-f]{64})")


class ManifestInvalid(ValueError):
    """A line of a manifest cannot be what it should be."""


@dataclass(frozen=True, slots=True)
class WholeFile:
    """One file and its digest, in hexadecimal digits."""

    name: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class BlockedFile:
    """One file with a digest for each block.

    Args:
        block: bytes of each block; the last one may be short.
        size: bytes of the file.
    """

    name: bytes
    algorithm: str
    block: int
    size: int
    digests: tuple[str, ...]

    @property
    def root(self) -> str:
        """The digest of the digests."""
        return digest_of(self.algorithm, b"".join(map(bytes.fromhex, self.digests)))


Entry = WholeFile | BlockedFile


def digest_of(algorithm: str, data: bytes) -> str:
    """The digest of a few bytes; raises ManifestInvalid where it cannot be computed here."""
    if algorithm == "sha256":
        return hashlib.sha256(data).hexdigest()
    try:
        from blake3 import blake3
    except ImportError:
        raise ManifestInvalid(f"algorithm {algorithm}: it needs blake3: pip install blake3") from None
    return str(blake3(data).hexdigest())


def format_entry(entry: Entry) -> Iterator[bytes]:
    """The lines of an entry, with their ends."""
    mark, name = _escaped(entry.name)
    if isinstance(entry, WholeFile):
        yield mark + entry.digest.encode() + b"  " + name + b"\n"
        return
    head = f"# ktask blocks algorithm={entry.algorithm} block={entry.block} bytes={entry.size}"
    # The mark of an escaped name comes first, so that the line is still a comment: not to
    # sha256sum, which reports it as improperly formatted and goes on.
    yield mark + f"{head} root={entry.root}  ".encode() + name + b"\n"
    for digest in entry.digests:
        yield f"# {digest}\n".encode()


def parse(lines: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of a manifest.

    Raises:
        ManifestInvalid: a line is none, blocks are missing or do not have the root.
    """
    head: BlockedFile | None = None
    root, digests, where = "", list[str](), 0
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix(b"\n")
        if head is not None:
            block = _BLOCK.fullmatch(line)
            if block is None:
                raise ManifestInvalid(f"line {number}: got no digest of a block, {_missing(head, digests)}")
            digests.append(block[1].decode())
            if len(digests) == _count(head):
                yield _whole(head, digests, root, where)
                head = None
            continue
        if match := _HEAD.fullmatch(line):
            head, root, digests, where = _head(match, number), match[5].decode(), [], number
            if not _count(head):
                yield _whole(head, [], root, where)
                head = None
        elif line and not line.startswith(b"#"):
            yield _line(line, number)
    if head is not None:
        raise ManifestInvalid(f"line {where}: the manifest ends, {_missing(head, digests)}")


def _line(line: bytes, number: int) -> WholeFile:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ManifestInvalid(f"line {number}: got {line[:40]!r}, wanted 64 hexadecimal digits and a name")
    return WholeFile(_unescaped(match[3]) if match[1] else match[3], match[2].decode())


def _head(match: re.Match[bytes], number: int) -> BlockedFile:
    algorithm, block = match[2].decode(), int(match[3])
    if algorithm not in ALGORITHMS:
        wanted = " or ".join(ALGORITHMS)
        raise ManifestInvalid(f'line {number}: algorithm: got "{algorithm}", wanted {wanted}')
    if not block:
        raise ManifestInvalid(f"line {number}: block: got 0, wanted at least 1")
    return BlockedFile(_unescaped(match[6]) if match[1] else match[6], algorithm, block, int(match[4]), ())


def _whole(head: BlockedFile, digests: Sequence[str], root: str, where: int) -> BlockedFile:
    entry = BlockedFile(head.name, head.algorithm, head.block, head.size, tuple(digests))
    if entry.root != root:
        raise ManifestInvalid(f"line {where}: root: got {root}, but the blocks' digests have {entry.root}")
    return entry


def _count(head: BlockedFile) -> int:
    return -(-head.size // head.block)


def _missing(head: BlockedFile, digests: Sequence[str]) -> str:
    return f"wanted {_count(head)} of them, there are {len(digests)}"


def _escaped(name: bytes) -> tuple[bytes, bytes]:
    """What stands before the digest of a name with a line's end or a backslash in it, and the name."""
    if not re.search(rb"[\\\n\r]", name):
        return b"", name
    return b"\\", name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def _unescaped(name: bytes) -> bytes:
    meaning = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}
    return re.sub(rb"\\[\\nr]", lambda match: meaning[match[0]], name)
