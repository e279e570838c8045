"""CRC-32 of bytes that several workers write, to recognise them later."""

from __future__ import annotations

from dataclasses import dataclass

from isal.isal_zlib import crc32, crc32_combine


@dataclass(slots=True)
class Sum:
    """Number of bytes and their CRC-32."""

    length: int = 0
    crc: int = 0

    def add(self, content: bytes | memoryview) -> Sum:
        """Append these bytes; returns itself."""
        self.crc = crc32(content, self.crc)
        self.length += len(content)
        return self

    def join(self, other: Sum) -> Sum:
        """Append the bytes of another sum; returns itself."""
        self.crc = crc32_combine(self.crc, other.crc, other.length)
        self.length += other.length
        return self
