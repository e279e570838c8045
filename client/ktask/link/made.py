"""Files that a job makes: as private as what they are made from, and removed unless it succeeds."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from typing import Any

from ktask.source import File, Handle, HasFileno, is_memory
from ktask.v1 import jobs_pb2 as pb

_USUAL_MODE = 0o666
_UNKNOWN_MODE = 0o600
"""Of a file that somebody else opened, and that may be private."""


class MadeFiles:
    """The files that were made for one job."""

    def __init__(self) -> None:
        """None yet."""
        self._made: list[tuple[str, int, int]] = []

    def open(self, path: str | bytes | os.PathLike[Any], access: pb.Access.ValueType, mode: int) -> File:
        """Open a file to be written, made with `mode` less the umask if it is missing.

        Raises:
            ValueError: no regular file, or a link to nothing.
            OSError: it can neither be opened nor made.
        """
        name, flags = ("w", os.O_WRONLY) if access == pb.ACCESS_WRITE else ("rw", os.O_RDWR)
        while True:
            try:
                return File(path, name, flags)
            except FileNotFoundError:
                # As cp(1): what a link to nothing names may be in nobody's mind any more.
                if os.path.islink(path):
                    raise ValueError(
                        f'file "{os.fsdecode(path)}": a link to a file that does not exist; '
                        "remove the link, or make that file"
                    ) from None
            # Somebody else may have made it just now: theirs is opened then.
            with contextlib.suppress(FileExistsError):
                file = File(path, name, flags | os.O_CREAT | os.O_EXCL, mode)
                status = os.fstat(file.fileno())
                self._made.append((os.path.abspath(file.path), status.st_dev, status.st_ino))
                return file

    def keep(self) -> None:
        """The job has succeeded, or goes on by itself: they stay."""
        self._made.clear()

    def remove(self) -> None:
        """Remove those that are still the files that were made; never raises."""
        made, self._made = self._made, []
        for path, device, inode in made:
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if (status.st_dev, status.st_ino) == (device, inode):
                    os.unlink(path)


def mode_for(sources: Iterable[Any]) -> int:
    """The mode of a file made from `sources`: no wider than any of theirs.

    Memory has none, so that of nothing but memory a file is made as usual.
    """
    mode = 0o777
    counted = False
    for source in sources:
        if isinstance(source, Handle):
            mode &= _UNKNOWN_MODE
        elif is_memory(source):
            continue
        elif isinstance(source, HasFileno):
            mode &= stat.S_IMODE(os.fstat(source.fileno()).st_mode)
        elif os.path.exists(source):
            mode &= stat.S_IMODE(os.stat(source).st_mode)
        else:
            continue
        counted = True
    return mode if counted else _USUAL_MODE
