"""Reads and writes sources in full, with errors that name the source."""

from __future__ import annotations

import errno
import os

from ktaskd.functions.body import OpenSource
from ktaskd.functions.failures import Failed

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
