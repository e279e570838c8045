"""Lines of checksums, as sha256sum, b3sum and cksum print and accept them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

DIGITS = {"sha256": 64, "sha512": 128, "blake3": 64, "crc32": 8, "crc32c": 8, "xxh3": 16}
"""Hexadecimal digits of each checksum."""

AMBIGUOUS = ("sha256", "blake3")
"""Algorithms with as many digits as each other; a line that names none can be of either."""

_BY_DIGITS = {64: "sha256", 128: "sha512", 16: "xxh3"}
"""The algorithm of a line that names none; 8 digits could be of either CRC."""

_TAGGED = re.compile(
    rb"[ \t]*(\\?)(SHA256|SHA512|BLAKE3|CRC32C|CRC32|XXH3) ?\((.*)\)[ \t]*=[ \t]*([0-9a-fA-F]+)", re.DOTALL
)
_PLAIN = re.compile(rb"[ \t]*(\\?)([0-9a-fA-F]+)[ \t](.+)", re.DOTALL)

_ESCAPE = re.compile(rb"\\(.?)", re.DOTALL)
_MEANINGS = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


@dataclass(frozen=True, slots=True)
class Expected:
    """The checksum that a list has for a file, in lower-case digits.

    Args:
        sure: whether the line or the caller names the algorithm; otherwise 64 digits may be of another one.
    """

    name: bytes
    algorithm: str
    digest: str
    sure: bool = True


def format_sum(found: Expected, *, tag: bool, binary: bool, zero: bool) -> bytes:
    """The line of a file, with its end; `zero` ends it with a zero byte and escapes no name."""
    mark, name = (b"", found.name) if zero else escape(found.name)
    end = b"\0" if zero else b"\n"
    digest = found.digest.encode()
    if tag:
        return mark + found.algorithm.upper().encode() + b" (" + name + b") = " + digest + end
    return mark + digest + (b" *" if binary else b"  ") + name + end


class Lines:
    """Reads lists, one after the other."""

    def __init__(self, given: str | None) -> None:
        """Read nothing yet.

        Args:
            given: the algorithm of all lines; None = tagged lines name theirs, the others show it by
                their digits.
        """
        self._given = given
        self._reversed: bool | None = None
        """Whether lines have one blank before the name, as from BSD's -r; the first line decides."""

    def read(self, content: bytes, *, is_input: bool) -> Iterator[tuple[int, Expected | None]]:
        """Yield the number of each line, from 1, with its entry; None for a line in no known format.

        Args:
            is_input: whether the list is standard input, which then cannot be a file of the list.
        """
        lines = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            text = line.removesuffix(b"\r")
            if not text or text.startswith(b"#"):
                continue
            entry = self.entry(text)
            yield number, None if entry and is_input and entry.name == b"-" else entry

    def entry(self, line: bytes) -> Expected | None:
        """The entry of one line without its end; None if it is in no known format."""
        return self._tagged(line) or self._plain(line)

    def _tagged(self, line: bytes) -> Expected | None:
        match = _TAGGED.fullmatch(line)
        if match is None:
            return None
        algorithm = match[2].decode().lower()
        if self._given not in (None, algorithm):
            return None
        return _entry(match[3], match[1], algorithm, match[4])

    def _plain(self, line: bytes) -> Expected | None:
        match = _PLAIN.fullmatch(line)
        algorithm = self._algorithm_of(len(match[2])) if match else None
        if match is None or algorithm is None:
            return None
        rest = match[3]
        one_blank = len(rest) == 1 or rest[:1] not in (b" ", b"*")
        # If forms were mixed, a name that begins with a blank would be ambiguous.
        if one_blank and self._reversed is False:
            return None
        if self._reversed is None:
            self._reversed = one_blank
        sure = self._given is not None or algorithm not in AMBIGUOUS
        return _entry(rest if self._reversed else rest[1:], match[1], algorithm, match[2], sure=sure)

    def _algorithm_of(self, digits: int) -> str | None:
        """The algorithm of a line that does not name it; None if it cannot have so many digits."""
        if self._given is None:
            return _BY_DIGITS.get(digits)
        return self._given if digits == DIGITS[self._given] else None


def _entry(name: bytes, mark: bytes, algorithm: str, digest: bytes, sure: bool = True) -> Expected | None:
    plain = unescape(name, mark)
    if not plain or len(digest) != DIGITS[algorithm]:
        return None
    return Expected(plain, algorithm, digest.decode().lower(), sure)


def escape(name: bytes) -> tuple[bytes, bytes]:
    """The mark before the line of a name that contains a line end or a backslash, and the escaped name."""
    if not re.search(rb"[\\\n\r]", name):
        return b"", name
    return b"\\", name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def unescape(name: bytes, mark: bytes) -> bytes | None:
    """The unescaped name of a line; None if it is invalid."""
    if b"\0" in name:
        return None
    if not mark:
        return name
    if any(found not in _MEANINGS for found in _ESCAPE.findall(name)):
        return None
    return _ESCAPE.sub(lambda match: _MEANINGS[match[1]], name)
