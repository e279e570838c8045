"""Files that the client creates for a job: as private as its sources, removed unless it succeeds."""

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
"""Assumed of a file that another program opened, which may be private."""


class MadeFiles:
    """The files that were created for one job."""

    def __init__(self) -> None:
        """Nothing has been created yet."""
        self._made: list[tuple[str, int, int]] = []

    def open(self, path: str | bytes | os.PathLike[Any], access: pb.Access.ValueType, mode: int) -> File:
        """Open a file to be written; if it is missing, create it with `mode` less the umask.

        Raises:
            ValueError: it is no regular file, or a dangling link.
            OSError: it can neither be opened nor created.
        """
        name, flags = ("w", os.O_WRONLY) if access == pb.ACCESS_WRITE else ("rw", os.O_RDWR)
        while True:
            try:
                return File(path, name, flags)
            except FileNotFoundError:
                # Refused as by cp(1): the user may not know any more what a dangling link names.
                if os.path.islink(path):
                    raise ValueError(
                        f'file "{os.fsdecode(path)}": a link to a file that does not exist; '
                        "remove the link, or create that file"
                    ) from None
            # Another process may have created it just now; then that file is opened.
            with contextlib.suppress(FileExistsError):
                file = File(path, name, flags | os.O_CREAT | os.O_EXCL, mode)
                status = os.fstat(file.fileno())
                self._made.append((os.path.abspath(file.path), status.st_dev, status.st_ino))
                return file

    def keep(self) -> None:
        """Let the files stay: the job has succeeded, or goes on without this client."""
        self._made.clear()

    def remove(self) -> None:
        """Remove the files, unless others have taken their places since; never raises."""
        made, self._made = self._made, []
        for path, device, inode in made:
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if (status.st_dev, status.st_ino) == (device, inode):
                    os.unlink(path)


def mode_for(sources: Iterable[Any]) -> int:
    """The mode for a file made from `sources`: no wider than any of theirs.

    Memory has no mode; a file made from memory alone gets the usual one.
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
