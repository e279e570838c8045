"""Sizes and buffers that several bodies share."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from ktaskd.functions.body import Body, Control

QUANTUM = 2 << 20
"""About 0.5 to 1 ms of work. Fits the L2 cache, so pages that were just cleared or read are still
cached for the next step."""

UNDO_QUANTUM = 8 << 20
"""Larger, since an undo mostly punches holes, which is fast."""

BUFFER = 256 << 10
"""For bytes that are read, inspected and written again. Fits any L2 cache."""

READ_BUFFER = 1 << 20
"""For bytes that are only read. 256 MiB of a file took 19 ms, against 25 ms with 256 KiB."""

PAGE = 4096
"""Smallest piece that is searched for zeros."""

_ZEROS = bytes(BUFFER)


def cut(start: int, end: int, quantum: int) -> Iterator[tuple[int, int]]:
    """Cut [start, end) into pieces whose inner edges are multiples of `quantum`."""
    while start < end:
        stop = min(end, start - start % quantum + quantum)
        yield start, stop
        start = stop


def pass_over(control: Control, start: int, end: int, quantum: int) -> int:
    """Report [start, end), which needs no more work, in steps of `quantum`.

    Returns:
        `end`, or the position beyond `start` at which control stopped it.
    """
    for position in range(start + quantum, end, quantum):
        if control.quantum(position):
            return position
    return end


def make_buffer(size: int) -> bytearray:
    """A buffer of more than one page that begins on a page boundary.

    The kernel copied 256 MiB into such a buffer in 25 ms. It took 36 ms for one that began
    16 bytes after a boundary, like an ordinary bytearray of this size.
    """
    buffer = bytearray(size + PAGE)
    anchor = ctypes.c_char.from_buffer(buffer)
    shift = -ctypes.addressof(anchor) % PAGE
    del anchor  # a bytearray cannot be resized while it is exported
    # Neither deletion moves the bytes that stay.
    del buffer[:shift]
    del buffer[size:]
    return buffer


def wipe(buffer: bytearray) -> None:
    """Erase a buffer without changing its length.

    Pages that are already zero are not touched, since they may be shared with the template.
    """
    for first, after in cut(0, len(buffer), BUFFER):
        with memoryview(_ZEROS)[: after - first] as zeros:
            if not buffer.startswith(zeros, first):
                buffer[first:after] = zeros


class Buffered(Body):
    """A body with one small buffer for all its work in this process.

    Args:
        size: bytes of the buffer.
    """

    def __init__(self, size: int = BUFFER) -> None:
        """Allocate the buffer."""
        self._buffer = make_buffer(size)

    def wipe(self) -> None:
        """Erase the buffer."""
        wipe(self._buffer)
