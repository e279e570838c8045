"""Frames of zstd for tests."""

from __future__ import annotations

import zstandard


def packed(content: bytes, has_size: bool, has_checksum: bool) -> bytes:
    packer = zstandard.ZstdCompressor(write_content_size=has_size, write_checksum=has_checksum)
    return packer.compress(content)


def skippable(content: bytes, kind: int) -> bytes:
    return bytes([0x50 | kind]) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
