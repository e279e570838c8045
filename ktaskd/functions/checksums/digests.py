"""Digests of whole files and of blocks. A file's digest cannot be combined from those of parts."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ktaskd.functions import steady
from ktaskd.functions.body import Body, Context, Control, Json, OpenSource
from ktaskd.functions.reading import LONG_ITEMS_PER_PART, Reader, run_each
from ktaskd.functions.transfer import truncated
from ktaskd.model.source import Stamp

DIGEST_BYTES = 32
"""Length of a SHA-256 digest, and of a BLAKE3 digest as b3sum prints it."""


class Hasher(Protocol):
    """A hash object as in hashlib."""

    def update(self, data: memoryview, /) -> object:
        """Add these bytes."""

    def hexdigest(self) -> str:
        """The digest so far."""


def _blake3() -> Hasher:
    # Imported here, so that SHA-256 works without it. One thread: a worker has one CPU.
    from blake3 import blake3

    hasher: Hasher = blake3(max_threads=1)
    return hasher


def _xxh3() -> Hasher:
    from xxhash import xxh3_64

    hasher: Hasher = xxh3_64()
    return hasher


ALGORITHMS: Mapping[str, Callable[[], Hasher]] = {
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "blake3": _blake3,
    "xxh3": _xxh3,
}


@dataclass(slots=True)
class _Begun:
    """A file that was given back half done, in case this worker gets it again."""

    context: Context
    position: int
    hasher: Hasher
    reached: int
    stamp: Stamp
    """Taken before its first byte was read."""


class Digest(Body):
    """One digest for each position: a whole item, or a block of `data`.

    Args:
        algorithm: one of ALGORITHMS; "" = the job's argument "algorithm".
    """

    quantum = 1

    def __init__(self, algorithm: str = "") -> None:
        """Begin without any file half done."""
        self._algorithm = algorithm
        self._reader = Reader()
        self._begun: _Begun | None = None

    def wipe(self) -> None:
        """Erase the buffer and forget a file that is half done."""
        self._reader.wipe()
        self._begun = None

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Digest some items or some blocks."""
        one = self._item if context.items else self._block
        return run_each(
            (start, end),
            control,
            lambda position: one(context, position, control),
            LONG_ITEMS_PER_PART,
        )

    def _name(self, context: Context) -> str:
        return self._algorithm or str(context.arg["algorithm"])

    def _item(self, context: Context, position: int, control: Control) -> Json | None:
        """The digest of a whole file. An interrupted file is remembered, since it may be long."""
        source = context.items[position]
        size = source.size()
        begun, self._begun = self._begun, None
        if begun is None or begun.context is not context or begun.position != position:
            begun = _Begun(context, position, ALGORITHMS[self._name(context)](), 0, source.stamp())
        span = (min(begun.reached, size), size)
        role = f"items[{position}]"
        begun.reached = self._reader.feed(source, role, span, control, begun.hasher.update, position)
        if begun.reached < size:
            self._begun = begun
            return None
        result = self.result(context, position, begun.hasher.hexdigest(), size)
        return steady.with_change(context, position, source, begun.stamp, result)

    def _block(self, context: Context, position: int, control: Control) -> Json | None:
        source, block = context.sources["data"], int(context.arg["block"])
        start, size = position * block, source.size()
        if size <= start:
            raise truncated("data", size, start + 1)
        end = min(start + block, size)
        hasher = ALGORITHMS[self._name(context)]()
        reached = self._reader.feed(source, "data", (start, end), control, hasher.update, position)
        return self.result(context, position, hasher.hexdigest(), end - start) if reached == end else None

    def result(self, context: Context, position: int, digest: str, size: int) -> Json:
        """The result of one position."""
        return {self._algorithm or "digest": digest, "bytes": size}


class Sha256(Digest):
    """file.sha256."""

    def __init__(self) -> None:
        """Use OpenSSL."""
        super().__init__("sha256")


class Sha512(Digest):
    """file.sha512."""

    def __init__(self) -> None:
        """Use OpenSSL."""
        super().__init__("sha512")


class Blake3(Digest):
    """file.blake3."""

    def __init__(self) -> None:
        """Use the blake3 package."""
        super().__init__("blake3")


class Xxh3(Digest):
    """file.xxh3."""

    def __init__(self) -> None:
        """Use the xxhash package."""
        super().__init__("xxh3")


class Manifest(Digest):
    """file.manifest."""

    def prepare(self, context: Context) -> Json:
        """Refuse an unusable algorithm before the first byte is read."""
        name = self._name(context)
        if name not in ("sha256", "blake3"):
            raise OSError(errno.EINVAL, f'argument "algorithm": got "{name[:64]}", wanted sha256 or blake3')
        try:
            ALGORITHMS[name]()
        except ImportError as error:
            words = f'argument "algorithm": "{name}" is not installed on this machine ({error})'
            raise OSError(errno.EOPNOTSUPP, words) from error
        return {}


class Verify(Manifest):
    """file.verify."""

    def prepare(self, context: Context) -> Json:
        """Also refuse a list of digests that is too short."""
        super().prepare(context)
        if context.span[1]:
            _expected(context, context.span[1] - 1)
        return {}

    def result(self, context: Context, position: int, digest: str, size: int) -> Json:
        """Whether the digest matches; both digests if it does not."""
        wanted = _expected(context, position).hex()
        if digest == wanted:
            return {"ok": True, "bytes": size}
        return {"ok": False, "bytes": size, "digest": digest, "wanted": wanted}


def _expected(context: Context, position: int) -> bytes:
    """The expected digest of a position."""
    source: OpenSource = context.sources["expected"]
    start = position * DIGEST_BYTES
    digest = os.pread(source.fd, DIGEST_BYTES, start)
    if len(digest) < DIGEST_BYTES:
        raise truncated("expected", start + len(digest), start + DIGEST_BYTES)
    return digest
