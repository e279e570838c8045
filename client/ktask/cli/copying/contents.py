"""The content of one file: by a job if it is long, otherwise at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from typing import Any

from ktask import convert
from ktask.cli.bar import drawer_for
from ktask.cli.exits import warn
from ktask.cli.output import print_warnings
from ktask.cli.streams import has_length
from ktask.cli.text import list_warnings
from ktask.core import Draft
from ktask.errors import JobFailed
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.results import JobState

LONG = 1 << 30
"""Bytes from which a job is worth its time: the kernel copies 3 GiB/s, and a job takes 0.15 s to begin.
Without such a file the command needs no daemon."""

_FICLONE = 0x40049409
"""Source: ioctl_ficlonerange(2)"""

_READ = 1 << 20
_BLOCK = 4096
_ZEROS = bytes(_BLOCK)

_NO_CLONE = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ETXTBSY})


class Copier:
    """Copies what files contain.

    Args:
        socket: directory of the daemon; None = the usual one. It is reached at the first long file.
        reflink, sparse: auto, always or never, as for cp.
        verify: compare source and copy afterwards.
        progress: draw a bar on a terminal while a job runs.
    """

    def __init__(
        self, socket: str | None, *, reflink: str, sparse: str, verify: bool, progress: bool
    ) -> None:
        """Connect to nothing yet."""
        self._socket = socket
        self._reflink = reflink
        self._sparse = sparse
        self._verify = verify
        self._progress = "auto" if progress else "off"
        self._session: Session | None = None

    def close(self) -> None:
        """End the connection."""
        if self._session is not None:
            self._session.close()

    def copy(self, name: bytes, source: Any, target: Any) -> None:
        """Copy the content of a source to an empty target; raises OSError, KtaskError."""
        src, dst = source.fileno(), target.fileno()
        before = os.fstat(src)
        is_regular, to_regular = has_length(src), stat.S_ISREG(os.fstat(dst).st_mode)
        if not (to_regular and self._is_cloned(src, dst)):
            if not (is_regular and to_regular):
                self._stream(src, dst)
            elif before.st_size >= LONG and self._sparse == "auto":
                self._by_job(source, target)
            else:
                self._each_part(src, dst, before.st_size)
        after = os.fstat(src)
        if is_regular and (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            warn(f'copy: file "{os.fsdecode(name)}": changed while it was copied')
        if self._verify and is_regular and to_regular:
            self._compare(source, target, before.st_size)

    def _is_cloned(self, src: int, dst: int) -> bool:
        """Share the storage of the source if that is wanted and possible."""
        if self._reflink == "never" or (self._reflink == "auto" and self._sparse != "auto"):
            return False
        try:
            fcntl.ioctl(dst, _FICLONE, src)
        except OSError as error:
            if self._reflink == "always" or error.errno not in _NO_CLONE:
                raise OSError(error.errno, f"failed to clone: {error.strerror}") from None
            return False
        return True

    def _by_job(self, source: Any, target: Any) -> None:
        # With a checksum the bytes are read, so the kernel cannot share their storage.
        arg = {"checksum": self._reflink == "never", "changed": "warn"}
        self._run(Draft("file.copy", arg=arg, sources={"src": source, "dst": target}))

    def _run(self, draft: Draft) -> dict[str, Any]:
        if self._session is None:
            self._session = open_session(self._socket, warn=warn)
        drawer = drawer_for(sys.stderr, self._progress)
        try:
            job = convert.job(self._session.run(draft, on_job=drawer))
        finally:
            if drawer is not None:
                drawer.clear()
        if job.state is not JobState.SUCCEEDED or job.result is None:
            raise JobFailed(job)
        print_warnings(list_warnings(job))
        return dict(job.result)

    def _each_part(self, src: int, dst: int, size: int) -> None:
        """Copy the parts that have storage; the others become holes, unless none are wanted."""
        os.ftruncate(dst, size)
        for start, end in _parts(src, size) if self._sparse != "never" else [(0, size)]:
            if self._sparse == "always":
                _without_zeros(src, dst, start, end)
            else:
                self._plain(src, dst, start, end)

    def _plain(self, src: int, dst: int, start: int, end: int) -> None:
        shares = self._reflink != "never" and self._sparse == "auto"
        while start < end:
            done = _by_kernel(src, dst, start, end) if shares else 0
            if not done:
                data = os.pread(src, min(_READ, end - start), start)
                if not data:
                    # The source has become shorter.
                    os.ftruncate(dst, start)
                    return
                done = os.pwrite(dst, data, start)
                shares = False
            start += done

    def _stream(self, src: int, dst: int) -> None:
        while data := os.read(src, _READ):
            with memoryview(data) as view:
                at = 0
                while at < len(view):
                    at += os.write(dst, view[at:])

    def _compare(self, source: Any, target: Any, size: int) -> None:
        if size < LONG:
            at = _difference(source.fileno(), target.fileno(), size)
        else:
            found = self._run(Draft("file.compare", sources={"a": source, "b": target}))
            at = int(found["first_difference"])
        if at >= 0:
            raise OSError(errno.EIO, f"the copy differs at byte {at}")


def _parts(fd: int, size: int) -> list[tuple[int, int]]:
    """The parts of a file that have storage."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            return [(0, size)]
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, min(at, size)))
    return found


def _by_kernel(src: int, dst: int, start: int, end: int) -> int:
    """Copy without bringing the bytes here; returns how many, 0 if that is not possible."""
    with contextlib.suppress(OSError):
        return os.copy_file_range(src, dst, end - start, start, start)
    return 0


def _without_zeros(src: int, dst: int, start: int, end: int) -> None:
    """Copy blocks, but leave holes for those of zeros."""
    for at in range(start, end, _READ):
        data = os.pread(src, min(_READ, end - at), at)
        for first in range(0, len(data), _BLOCK):
            block = data[first : first + _BLOCK]
            if block != _ZEROS[: len(block)]:
                os.pwrite(dst, block, at + first)


def _difference(a: int, b: int, size: int) -> int:
    """The first position where two files differ; -1 if they are equal."""
    for at in range(0, max(size, 1), _READ):
        left, right = os.pread(a, _READ, at), os.pread(b, _READ, at)
        if left != right:
            pairs = zip(left, right, strict=False)
            return at + next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(left), len(right)))
    return -1
