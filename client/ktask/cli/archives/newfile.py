"""A new file with the rights and the time of the file that it is made from."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from types import TracebackType
from typing import IO, Self

from ktask.cli.streams import named
from ktask.source import kind_name


class NewFile:
    """A file that appears under its name when it is complete, and not at all otherwise.

    Only its owner can open it before.
    """

    file: IO[bytes]

    def __init__(self, path: bytes, *, replace: bool) -> None:
        """Create nothing yet.

        Args:
            replace: whether a file with this name may be replaced.
        Raises:
            FileExistsError: it exists and may not be replaced.
            OSError: it is a directory, a device or the like, which is never replaced.
        """
        self._path, self._replace, self._new = path, replace, b""
        if os.path.exists(path) and not os.path.isfile(path):
            kind = kind_name(os.stat(path).st_mode)
            text = f"is a {kind}, wanted a regular file; -c writes to standard output"
            raise OSError(errno.EINVAL, text, os.fsdecode(path))
        if not replace and os.path.lexists(path):
            raise _exists(path)

    def __enter__(self) -> Self:
        """Create it beside its name; raises OSError."""
        folder, name = os.path.split(self._path)
        # A name has at most 255 bytes. Source: limits.h, NAME_MAX
        self._new = os.path.join(folder, b".%s.%s.tmp" % (name[:200], secrets.token_hex(6).encode()))
        try:
            fd = os.open(self._new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self.file = named(fd, self._path, "r+b")
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fsdecode(self._path)) from None
        except BaseException:  # a signal; `__exit__` is called only once this has returned
            with contextlib.suppress(OSError):
                os.unlink(self._new)
            raise
        return self

    def complete(self, source: os.stat_result | None, *, sync: bool) -> None:
        """Give it the rights and the time of its source, and its name.

        Args:
            source: status of the source; None = standard input, which gives the usual rights.
            sync: wait until it is on the disk.
        Raises:
            OSError: it cannot be renamed, or its name is taken.
        """
        fd = self.file.fileno()
        if source is None:
            os.fchmod(fd, 0o666 & ~_umask())
        else:
            _take_rights(fd, source)
            os.utime(fd, ns=(source.st_atime_ns, source.st_mtime_ns))
        if sync:
            os.fsync(fd)
        self._rename()

    def _rename(self) -> None:
        if self._replace:
            os.replace(self._new, self._path)
        else:
            # Unlike a rename, a link never replaces a file that was created meanwhile.
            try:
                os.link(self._new, self._path)
            except FileExistsError:
                raise _exists(self._path) from None
            except OSError:  # a file system without links
                if os.path.lexists(self._path):
                    raise _exists(self._path) from None
                os.replace(self._new, self._path)
                self._new = b""
                return
            os.unlink(self._new)
        self._new = b""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it, and remove it unless it is complete."""
        self.file.close()
        if self._new:
            with contextlib.suppress(OSError):
                os.unlink(self._new)


def _exists(path: bytes) -> FileExistsError:
    return FileExistsError(
        errno.EEXIST, "already exists; -f replaces it, -o gives another name", os.fsdecode(path)
    )


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _take_rights(fd: int, source: os.stat_result) -> None:
    """Take the owner of the source if that is allowed, and then its mode, never a wider one."""
    mode = stat.S_IMODE(source.st_mode) & 0o777
    with contextlib.suppress(OSError):
        os.fchown(fd, source.st_uid, -1)
    try:
        os.fchown(fd, -1, source.st_gid)
    except OSError:
        if os.fstat(fd).st_gid != source.st_gid:
            mode &= ~0o070  # the bits were meant for another group
    os.fchmod(fd, mode)
