"""The files of a command line, those below its directories, and complaints about them."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Collection, Iterable, Iterator

from ktask.cli.exits import DONE, FAILED, complain
from ktask.cli.streams import DASH
from ktask.source import kind_name


class Complaints:
    """Reports files that cannot be read on standard error, and keeps the exit status."""

    def __init__(self) -> None:
        """No complaint yet."""
        self.status = DONE

    def add(self, name: bytes, problem: str) -> None:
        """Report a file that could not be read."""
        self.status = complain(f'file "{os.fsdecode(name)}": {problem}', FAILED)


def report_unreadable(verb: str, name: bytes, problem: str) -> None:
    """Report a file that cannot be read on standard error."""
    complain(f'{verb}: file "{os.fsdecode(name)}": {problem}', DONE)


def files_of(paths: Iterable[bytes], bad: Complaints, *, recursive: bool) -> Iterator[bytes]:
    """Yield the given names, and with `recursive` the files below directories in their place."""
    for path in paths:
        if recursive and path != os.fsencode(DASH) and os.path.isdir(path):
            yield from walk([path], output_identity(), bad)
        else:
            yield path


def output_identity() -> set[tuple[int, int]]:
    """Device and inode of standard output if it is a file, which may lie below a listed directory."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        status = os.fstat(sys.stdout.fileno())
        if stat.S_ISREG(status.st_mode):
            return {(status.st_dev, status.st_ino)}
    return set()


def walk(paths: Iterable[bytes], own: Collection[tuple[int, int]], bad: Complaints) -> Iterator[bytes]:
    """Yield regular files; those below a directory in the order of their names.

    Below a directory, links and other files that are not regular are left out. A given path may
    be a link to a file; a link to a directory is refused, since its list would be empty.

    Args:
        own: device and inode of files that are left out.
    """
    for path in paths:
        if path == os.fsencode(DASH):
            yield path
            continue
        try:
            problem = _problem_of_path(path)
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            bad.add(path, problem)
            continue
        yield from _below(path, own, bad, follow=True)


def _problem_of_path(path: bytes) -> str:
    """Why a given path cannot be listed, "" if it can; raises OSError."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode) and os.path.islink(path):
        return f'a link to a directory; "{os.fsdecode(path)}/" lists its files'
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        return f"is a {kind_name(mode)}, wanted a regular file or a directory"
    return ""


def _below(top: bytes, own: Collection[tuple[int, int]], bad: Complaints, *, follow: bool) -> Iterator[bytes]:
    """The files at or below one path. Without recursion: a tree may be deeper than Python's stack."""
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            status = os.stat(path) if follow else os.lstat(path)
            names = sorted(os.listdir(path), reverse=True) if stat.S_ISDIR(status.st_mode) else []
        except OSError as error:
            bad.add(path, error.strerror or str(error))
            continue
        finally:
            follow = False
        if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in own:
            yield path
        waiting += [os.path.join(path, name) for name in names]
