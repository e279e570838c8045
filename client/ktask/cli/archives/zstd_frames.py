"""Finds the ends of zstd frames without decompressing them. Pure.

Source: RFC 8878, sections 3.1.1 (frames, blocks) and 3.1.2 (skippable frames)
"""

from __future__ import annotations

from dataclasses import dataclass

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
_DICTIONARY_BYTES = (0, 1, 2, 4)
_RLE, _RESERVED = 1, 3


class NoFrame(ValueError):
    """There is no zstd frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame.

    Args:
        length: its bytes.
        content: bytes of what is compressed in it; None = it does not state them.
        is_skippable: whether decoders pass over it.
    """

    length: int
    content: int | None
    is_skippable: bool = False


def frame_at(data: bytes | bytearray, at: int) -> Frame | None:
    """The frame that begins at a position; None if the data ends within it. Raises NoFrame."""
    head = bytes(data[at : at + 4])
    if len(head) < 4:
        return None
    if head[1:] == _SKIPPABLE and head[0] & 0xF0 == 0x50:
        return _skippable(data, at)
    if head != _MAGIC:
        raise NoFrame("no zstd frame begins here")
    return _frame(data, at)


def _skippable(data: bytes | bytearray, at: int) -> Frame | None:
    size = data[at + 4 : at + 8]
    length = 8 + int.from_bytes(size, "little")
    return Frame(length, 0, True) if len(size) == 4 and at + length <= len(data) else None


def _frame(data: bytes | bytearray, at: int) -> Frame | None:
    if at + 5 > len(data):
        return None
    descriptor = data[at + 4]
    is_single = bool(descriptor & 0x20)
    size_bytes = (1 if is_single else 0, 2, 4, 8)[descriptor >> 6]
    size_at = at + 5 + (0 if is_single else 1) + _DICTIONARY_BYTES[descriptor & 3]
    size = data[size_at : size_at + size_bytes]
    end = _end_of_blocks(data, size_at + size_bytes)
    if end is None:
        return None
    end += 4 if descriptor & 4 else 0
    if end > len(data):
        return None
    # Two bytes state a size of 256 to 65791.
    content = int.from_bytes(size, "little") + (256 if size_bytes == 2 else 0) if size_bytes else None
    return Frame(end - at, content)


def _end_of_blocks(data: bytes | bytearray, at: int) -> int | None:
    """The position after the last block; None if the data ends before."""
    while at + 3 <= len(data):
        head = int.from_bytes(data[at : at + 3], "little")
        kind, size = head >> 1 & 3, head >> 3
        if kind == _RESERVED:
            raise NoFrame("a block is of a kind that there is not")
        at += 3 + (1 if kind == _RLE else size)
        if head & 1:
            return at
    return None
