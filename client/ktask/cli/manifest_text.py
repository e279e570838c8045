"""The format of a manifest: lines that `sha256sum -c` or `b3sum -c` accept, and digests of blocks. Pure.

A huge file may have a digest for each block instead of one for the whole file. These
lines are comments to sha256sum: a head with the file's name, and a line for each block.

    # ktask blocks algorithm=sha256 block=67108864 bytes=200000000 root=HEX  NAME
    # HEX

The root is the digest of the blocks' digests, as bytes one after the other.

The reader accepts what `sha256sum -c` accepts: its own lines, those of `--tag` and of BSD,
upper-case digits, DOS line ends, and lines in no such format. It also accepts the lines of
`sha256sum -z`, which end with a zero byte.

Source: the output format of cksum(1), "escaped" names included; split_3 and bsd_split_3 in
src/digest.c of coreutils
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ktask.cli.sums.lines import Lines, escape, unescape

ALGORITHMS = ("sha256", "blake3")

_HEAD = re.compile(
    rb"(\\?)# ktask blocks algorithm=(\w+) block=(\d{1,15}) bytes=(\d{1,18}) root=([0-9a-f]{64})  (.+)",
    re.DOTALL,
)
_BLOCK = re.compile(rb"# ([0-9a-f]{64})")


class ManifestInvalid(ValueError):
    """A digest cannot be computed here."""


@dataclass(frozen=True, slots=True)
class WholeFile:
    """One file and its digest, in hexadecimal digits.

    Args:
        algorithm: named by the line; "" if it names none.
    """

    name: bytes
    digest: str
    algorithm: str = ""


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


@dataclass(frozen=True, slots=True)
class BrokenEntry:
    """One file whose digests of blocks contradict their head, so that it cannot be checked."""

    name: bytes
    problem: str


Entry = WholeFile | BlockedFile | BrokenEntry


@dataclass(slots=True)
class Listed:
    """The contents of a list.

    Args:
        entries: in order.
        bad_lines: numbers of the lines that are neither an entry nor a comment nor empty.
    """

    entries: list[Entry] = field(default_factory=list)
    bad_lines: list[int] = field(default_factory=list)


def digest_of(algorithm: str, data: bytes) -> str:
    """The digest of a few bytes; raises ManifestInvalid if it cannot be computed here."""
    if algorithm == "sha256":
        return hashlib.sha256(data).hexdigest()
    try:
        from blake3 import blake3
    except ImportError:
        raise ManifestInvalid(
            f"algorithm {algorithm}: needs the package blake3: pip install blake3"
        ) from None
    return str(blake3(data).hexdigest())


def format_entry(entry: WholeFile | BlockedFile) -> Iterator[bytes]:
    """Yield the lines of an entry, with line ends."""
    mark, name = escape(entry.name)
    if isinstance(entry, WholeFile):
        yield mark + entry.digest.encode() + b"  " + name + b"\n"
        return
    head = f"# ktask blocks algorithm={entry.algorithm} block={entry.block} bytes={entry.size}"
    # The mark of an escaped name comes first, as in other lines. To sha256sum such a head is
    # no comment: it reports an improperly formatted line and goes on.
    yield mark + f"{head} root={entry.root}  ".encode() + name + b"\n"
    for digest in entry.digests:
        yield f"# {digest}\n".encode()


def parse(content: bytes) -> Listed:
    """Read a list. Lines in no known format are counted, as `sha256sum -c` does."""
    reader = _Reader()
    zeros = content.endswith(b"\0")
    for number, line in enumerate(content.split(b"\0" if zeros else b"\n"), 1):
        reader.line(line if zeros else line.removesuffix(b"\r"), number)
    reader.end()
    return reader.found


class _Reader:
    """Reads the lines of one list."""

    def __init__(self) -> None:
        self.found = Listed()
        self._head: BlockedFile | None = None
        self._root, self._where = "", 0
        self._digests: list[str] = []
        self._lines = Lines(None)

    def line(self, line: bytes, number: int) -> None:
        """Read the next line."""
        if self._head is not None:
            block = _BLOCK.fullmatch(line)
            if block is not None:
                self._digests.append(block[1].decode())
                self._close_if_complete()
                return
            self._break(f"line {number}: is no digest of a block, {self._missing()}")
        if match := _HEAD.fullmatch(line):
            self._open(match, number)
        elif line and not line.startswith(b"#"):
            entry = self._lines.entry(line)
            if entry is None or entry.algorithm not in ALGORITHMS:
                self.found.bad_lines.append(number)
            else:
                algorithm = entry.algorithm if entry.sure else ""
                self.found.entries.append(WholeFile(entry.name, entry.digest, algorithm))

    def end(self) -> None:
        """Note that there are no more lines."""
        if self._head is not None:
            self._break(f"line {self._where}: the list ends, {self._missing()}")

    def _open(self, match: re.Match[bytes], number: int) -> None:
        """Read the head of a file with digests of blocks."""
        name, algorithm, block = unescape(match[6], match[1]), match[2].decode(), int(match[3])
        if name is None:
            self.found.bad_lines.append(number)
            return
        self._head = BlockedFile(name, algorithm, block, int(match[4]), ())
        self._root, self._where, self._digests = match[5].decode(), number, []
        if algorithm not in ALGORITHMS:
            wanted = " or ".join(ALGORITHMS)
            self._break(f'line {number}: algorithm: got "{algorithm}", wanted {wanted}')
        elif not block:
            self._break(f"line {number}: block: got 0, wanted at least 1")
        else:
            self._close_if_complete()

    def _close_if_complete(self) -> None:
        head = self._head
        if head is None or len(self._digests) < _count(head):
            return
        entry = replace(head, digests=tuple(self._digests))
        try:
            root = entry.root
        except ManifestInvalid as error:
            self._break(str(error))
            return
        if root != self._root:
            self._break(f"line {self._where}: root: got {self._root}, but the blocks' digests have {root}")
            return
        self.found.entries.append(entry)
        self._head = None

    def _break(self, problem: str) -> None:
        """Give up the file whose head was read last: it cannot be checked."""
        if self._head is not None:
            self.found.entries.append(BrokenEntry(self._head.name, problem))
        self._head = None

    def _missing(self) -> str:
        count = _count(self._head) if self._head else 0
        return f"there are {len(self._digests)} of {count} digests"


def _count(head: BlockedFile) -> int:
    return -(-head.size // head.block)
