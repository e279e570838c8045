"""Writes a new file next to the one that it replaces, and renames it when it is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self


class Replacement:
    """New contents of a file, which appear as a whole or not at all.

    A path that is no regular file, such as /dev/stdout, is written directly.
    """

    file: IO[bytes]

    def __init__(self, path: str) -> None:
        """Create nothing yet; raises OSError."""
        # A link stays, and the file that it names is replaced.
        self._path = os.path.realpath(path)
        self._new = ""
        self._before = _status(self._path)

    def open(self) -> None:
        """Create the new file, which `__exit__` removes unless it is complete; raises OSError."""
        if self._before is not None and not stat.S_ISREG(self._before.st_mode):
            self.file = open(self._path, "wb")  # noqa: SIM115 - closed by __exit__
            return
        folder, name = os.path.split(os.fsencode(self._path))
        # A name has at most 255 bytes. Source: limits.h, NAME_MAX
        new = b"." + name[:200] + b".%s.tmp" % secrets.token_hex(6).encode()
        self._new = os.fsdecode(os.path.join(folder, new))
        try:
            fd = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from None
        self.file = os.fdopen(fd, "wb")
        self._keep_rights()

    def identities(self) -> Iterator[tuple[int, int]]:
        """Device and inode of the new file, and of the one that it replaces."""
        for status in (os.fstat(self.file.fileno()), self._before):
            if status is not None:
                yield status.st_dev, status.st_ino

    def complete(self) -> None:
        """Rename the new file to the path; raises OSError."""
        self.file.flush()
        if self._new:
            os.fsync(self.file.fileno())
            os.replace(self._new, self._path)
            self._new = ""

    def _keep_rights(self) -> None:
        """Give it the mode of the file that it replaces, and the owner if that is allowed."""
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.fchown(self.file.fileno(), self._before.st_uid, self._before.st_gid)
            os.fchmod(self.file.fileno(), stat.S_IMODE(self._before.st_mode))

    def __enter__(self) -> Self:
        """Create the new file; the end closes it, and removes it unless it is complete."""
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
