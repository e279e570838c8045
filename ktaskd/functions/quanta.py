"""Sizes, buffers and small steps that several bodies share."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

from ktaskd.functions.body import Body, OpenSource
from ktaskd.functions.failures import Failed

QUANTUM_BYTES_MAX = 8 << 20
"""Most bytes between two calls of Control.quantum. A starved helper gave its chunk back in 0.4 s
with this limit, and in 7 to 9 s with 64 MiB."""

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

NOTHING_WRITTEN = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPERM, errno.EBADF, errno.EINVAL, errno.ETXTBSY}
)
"""A write that fails with one of these has changed nothing: bytes that it could still write would
have been counted instead. Source: write(2)"""

UNTOUCHED = NOTHING_WRITTEN | {
    *(errno.EINVAL, errno.EACCES, errno.EROFS, errno.ETXTBSY),
    *(errno.EOPNOTSUPP, errno.ENODEV, errno.ENOSYS, errno.ESPIPE),
}
"""NOTHING_WRITTEN, and the errors of a write or fallocate that is refused before it begins: for
requests that O_DIRECT does not accept, immutable files, and files in use for swapping."""

_ZERO_PAGE = bytes(PAGE)
_ZEROS = bytes(BUFFER)


def cut(start: int, end: int, quantum: int) -> Iterator[tuple[int, int]]:
    """Cut [start, end) into pieces whose inner edges are multiples of `quantum`."""
    while start < end:
        stop = min(end, start - start % quantum + quantum)
        yield start, stop
        start = stop


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


def truncated(role: str, got: int, wanted: int) -> OSError:
    """The error for a source that ends before the job's last position."""
    return OSError(errno.ENODATA, f'source "{role}": ends at {got}, but the job needs bytes up to {wanted}')


class Naming:
    """Context manager that adds the source's name to errors of the kernel.

    A class, since a generator would take longer than the block that it guards.

    Args:
        role: the source's name in errors.
        doing: a verb, "read" or "write".
    """

    __slots__ = ("_doing", "_end", "_role", "_start")

    def __init__(self, role: str, doing: str, start: int, end: int) -> None:
        """Keep them."""
        self._role = role
        self._doing = doing
        self._start = start
        self._end = end

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Raise the error again with source, verb and span; an error with a source's name passes."""
        if isinstance(error, OSError) and not str(error.strerror).startswith('source "'):
            raise self._named(error) from error

    def _named(self, error: OSError) -> OSError:
        number = error.errno or errno.EIO
        words = str(error.strerror or error)
        if words == os.strerror(number):
            words = f"cannot {self._doing} bytes {self._start} to {self._end}: {words[:1].lower()}{words[1:]}"
        words = f'source "{self._role}": {words}'
        if isinstance(error, Failed):
            return Failed(number, words, reason=error.reason, dirty=error.dirty)
        return OSError(number, words)


def require_size(source: OpenSource, role: str, end: int) -> None:
    """Raise OSError (ENODATA) if the source ends before `end`.

    A writer checks before each quantum and after the last one. Otherwise its next write would
    make a file that was cut long again, with zeros in the place of what it wrote before.
    """
    size = source.size()
    if size < end:
        raise truncated(role, size, end)


def write_some(source: OpenSource, role: str, position: int, content: memoryview) -> int:
    """Write a first part of `content` at `position`, and release it; returns the bytes written."""
    with content, Naming(role, "write", position, position + len(content)):
        return source.write([content], position)


def write_full(source: OpenSource, role: str, position: int, content: bytes | memoryview) -> int:
    """Write all of `content` from `position` on; returns its length."""
    end = position + len(content)
    with memoryview(content) as view:
        while position < end:
            with view[len(view) - (end - position) :] as rest, Naming(role, "write", position, end):
                position += source.write([rest], position)
    return len(content)


def read_full(source: OpenSource, role: str, position: int, view: memoryview) -> None:
    """Fill `view` from `position` on; raises OSError (ENODATA) if the source ends before."""
    done = 0
    while done < len(view):
        with view[done:] as rest, Naming(role, "read", position + done, position + len(view)):
            count = os.preadv(source.fd, [rest], position + done)
        if count == 0:
            raise truncated(role, position + done, position + len(view))
        done += count


def zero_runs(buffer: bytearray, length: int, base: int) -> list[tuple[int, int]]:
    """Whole pages of zeros in buffer[:length], as positions; the last one may be short.

    Args:
        base: position of buffer[0]. Pages are those of the source: if buffer[0] lies inside a
            page, the first piece ends with that page.
    """
    runs: list[tuple[int, int]] = []
    offset = 0
    while offset < length:
        stop = min(length, offset + PAGE - (base + offset) % PAGE)
        zeros = _ZERO_PAGE if stop - offset == PAGE else bytes(stop - offset)
        # startswith compares in place; a slice of the buffer would be a copy.
        if buffer.startswith(zeros, offset):
            if runs and runs[-1][1] == base + offset:
                runs[-1] = (runs[-1][0], base + stop)
            else:
                runs.append((base + offset, base + stop))
        offset = stop
    return runs


def gaps(runs: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of [start, end) outside of `runs`.

    Args:
        runs: ascending and disjoint; may reach beyond [start, end).
    """
    out = []
    for first, after in runs:
        if first >= end:
            break
        if first > start:
            out.append((start, first))
        start = max(start, after)
    if start < end:
        out.append((start, end))
    return out


def common(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The intersection of two ascending lists of spans."""
    out = []
    i = j = 0
    while i < len(left) and j < len(right):
        first, after = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if first < after:
            out.append((first, after))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return out
