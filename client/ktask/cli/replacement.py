"""Files written beside what they replace, and renamed when they are complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self


class Replacement:
    """A new content of a file, which is there as a whole or not at all.

    Where the path is none of a regular file, as /dev/stdout, it is written as it is.
    """

    file: IO[bytes]

    def __init__(self, path: str) -> None:
        """Make nothing yet; raises OSError."""
        # A link stays, and what it names is replaced.
        self._path = os.path.realpath(path)
        self._new = ""
        self._before = _status(self._path)

    def open(self) -> None:
        """Make the new file, which `__exit__` removes; raises OSError."""
        if self._before is not None and not stat.S_ISREG(self._before.st_mode):
            self.file = open(self._path, "wb")  # noqa: SIM115 - closed by __exit__
            return
        folder, name = os.path.split(os.fsencode(self._path))
        # A name has 255 bytes at most. Source: limits.h, NAME_MAX
        new = b"." + name[:200] + b".%s.tmp" % secrets.token_hex(6).encode()
        self._new = os.fsdecode(os.path.join(folder, new))
        fd = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self.file = os.fdopen(fd, "wb")
        self._keep_rights()

    def identities(self) -> Iterator[tuple[int, int]]:
        """Device and inode of the file that is written, and of the one before."""
        for status in (os.fstat(self.file.fileno()), self._before):
            if status is not None:
                yield status.st_dev, status.st_ino

    def complete(self) -> None:
        """Put it in its place; raises OSError."""
        self.file.flush()
        if self._new:
            os.fsync(self.file.fileno())
            os.replace(self._new, self._path)
            self._new = ""

    def _keep_rights(self) -> None:
        """Give it the mode, and if that may be the owner, of what it replaces."""
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.fchown(self.file.fileno(), self._before.st_uid, self._before.st_gid)
            os.fchmod(self.file.fileno(), stat.S_IMODE(self._before.st_mode))

    def __enter__(self) -> Self:
        """Make it, close it at the end, and remove it unless it is complete."""
        try:
            self.open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close and remove it."""
        with contextlib.suppress(OSError, AttributeError):
            self.file.close()
        if self._new:
            with contextlib.suppress(OSError):
                os.unlink(self._new)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
