"""Sizes and small steps that several bodies share."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

from ktaskd.functions.body import Body, OpenSource
from ktaskd.functions.failures import Failed

QUANTUM_BYTES_MAX = 8 << 20
"""Most bytes between two calls of Control.quantum. A starved helper gave its
chunk back in 0.4 s with this, and in 7 to 9 s with 64 MiB."""

QUANTUM = 2 << 20
"""About 0.5 to 1 ms of work; fits the L2 cache, so that pages that were just
cleared or read are still there when they are worked on."""

UNDO_QUANTUM = 8 << 20
"""Undo is mostly punching, which is fast."""

BUFFER = 256 << 10
"""For what is read, looked at and written again: fits any L2 cache."""

READ_BUFFER = 1 << 20
"""For what is only read: 256 MiB of a file came in 19 ms, with 256 KiB in 25."""

PAGE = 4096
"""Smallest piece that is looked at for zeros."""

NOTHING_WRITTEN = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPERM, errno.EBADF, errno.EINVAL, errno.ETXTBSY}
)
"""With these a write has changed nothing: what it could still write it would have counted instead.
Source: write(2)"""

UNTOUCHED = NOTHING_WRITTEN | {
    *(errno.EINVAL, errno.EACCES, errno.EROFS, errno.ETXTBSY),
    *(errno.EOPNOTSUPP, errno.ENODEV, errno.ENOSYS, errno.ESPIPE),
}
"""The same, and those with which a write or fallocate is refused before it begins, as for what
O_DIRECT does not take, a file that is immutable by now, or one that is used for swapping."""

_ZERO_PAGE = bytes(PAGE)
_ZEROS = bytes(BUFFER)


def cut(start: int, end: int, quantum: int) -> Iterator[tuple[int, int]]:
    """[start, end) in pieces whose inner edges are multiples of `quantum`."""
    while start < end:
        stop = min(end, start - start % quantum + quantum)
        yield start, stop
        start = stop


def make_buffer(size: int) -> bytearray:
    """A buffer that begins at a page, for sizes of more than one.

    The kernel copied 256 MiB into one in 25 ms, and in 36 where it began 16 bytes behind a
    page, as a bytearray of this size does.
    """
    buffer = bytearray(size + PAGE)
    anchor = ctypes.c_char.from_buffer(buffer)
    shift = -ctypes.addressof(anchor) % PAGE
    del anchor  # it cannot be resized while somebody looks at it
    # Neither moves what stays: the first lets it begin later, the second end earlier.
    del buffer[:shift]
    del buffer[size:]
    return buffer


def wipe(buffer: bytearray) -> None:
    """Erase a buffer, whose length stays.

    What holds nothing is not touched, since it may be shared with the template.
    """
    for first, after in cut(0, len(buffer), BUFFER):
        with memoryview(_ZEROS)[: after - first] as zeros:
            if not buffer.startswith(zeros, first):
                buffer[first:after] = zeros


class Buffered(Body):
    """A body with one small buffer for all that it does in this process.

    Args:
        size: of the buffer.
    """

    def __init__(self, size: int = BUFFER) -> None:
        """Have the buffer."""
        self._buffer = make_buffer(size)

    def wipe(self) -> None:
        """Erase the buffer."""
        wipe(self._buffer)


def truncated(role: str, got: int, wanted: int) -> OSError:
    """The error of a source that ends before the job does."""
    return OSError(errno.ENODATA, f'source "{role}": truncated, ends at {got}, wanted up to {wanted}')


class Naming:
    """A block that works on one source: an error of the kernel leaves it with the source's name.

    A class, since a generator would take longer than the block.

    Args:
        doing: a verb, "read" or "write".
    """

    __slots__ = ("_doing", "_end", "_role", "_start")

    def __init__(self, role: str, doing: str, start: int, end: int) -> None:
        """Hold them."""
        self._role = role
        self._doing = doing
        self._start = start
        self._end = end

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Raise the same with what, which, got and wanted; one that has the name already passes."""
        if isinstance(error, OSError) and not str(error.strerror).startswith('source "'):
            raise self._named(error) from error

    def _named(self, error: OSError) -> OSError:
        number = error.errno or errno.EIO
        words = str(error.strerror or error)
        if words == os.strerror(number):
            words = (
                f"{words[:1].lower()}{words[1:]}, wanted to {self._doing} bytes {self._start} to {self._end}"
            )
        words = f'source "{self._role}": {words}'
        if isinstance(error, Failed):
            return Failed(number, words, reason=error.reason, dirty=error.dirty)
        return OSError(number, words)


def require_size(source: OpenSource, role: str, end: int) -> None:
    """Raise OSError (ENODATA) where the source ends before `end`.

    Who writes looks before each quantum and after the last one: a write to what was cut makes it
    long again, with zeros for what was written before.
    """
    size = source.size()
    if size < end:
        raise truncated(role, size, end)


def write_some(source: OpenSource, role: str, position: int, content: memoryview) -> int:
    """Write a first part of `content` at `position`; how many bytes. Releases it."""
    with content, Naming(role, "write", position, position + len(content)):
        return source.write([content], position)


def write_full(source: OpenSource, role: str, position: int, content: bytes | memoryview) -> int:
    """Write all of `content` from `position` on; its length."""
    end = position + len(content)
    with memoryview(content) as view:
        while position < end:
            with view[len(view) - (end - position) :] as rest, Naming(role, "write", position, end):
                position += source.write([rest], position)
    return len(content)


def read_full(source: OpenSource, role: str, position: int, view: memoryview) -> None:
    """Fill `view` from `position` on; raises OSError (ENODATA) where the source ends."""
    done = 0
    while done < len(view):
        with view[done:] as rest, Naming(role, "read", position + done, position + len(view)):
            count = os.preadv(source.fd, [rest], position + done)
        if count == 0:
            raise truncated(role, position + done, position + len(view))
        done += count


def zero_runs(buffer: bytearray, length: int, base: int) -> list[tuple[int, int]]:
    """Whole pages of zeros in buffer[:length], as positions; the last may be short.

    Args:
        base: position of buffer[0]. Pages are those of the source, so that a
            first one that begins inside a page ends with it.
    """
    runs: list[tuple[int, int]] = []
    offset = 0
    while offset < length:
        stop = min(length, offset + PAGE - (base + offset) % PAGE)
        zeros = _ZERO_PAGE if stop - offset == PAGE else bytes(stop - offset)
        # It compares in place; a slice of the buffer would be a copy.
        if buffer.startswith(zeros, offset):
            if runs and runs[-1][1] == base + offset:
                runs[-1] = (runs[-1][0], base + stop)
            else:
                runs.append((base + offset, base + stop))
        offset = stop
    return runs


def gaps(runs: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """What of [start, end) is not in `runs`, which are ascending and apart, and may lie outside of it."""
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
    """What is in both of two ascending lists of spans."""
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
