"""Copies files and trees as cp does: one that fails is reported, and does not stop the others."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ktask.cli.arguments import UsageError
from ktask.cli.batches import problem_of
from ktask.cli.copying.attributes import keep
from ktask.cli.copying.contents import Copier
from ktask.cli.escaping import printable
from ktask.cli.exits import DONE, FAILED, complain
from ktask.errors import KtaskError

_LATER = 0o700
"""Rights that a new directory has while it is filled."""


class Refused(Exception):
    """One file is not copied; the text says why."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One file to copy, or a directory whose files are all copied.

    Args:
        given: named on the command line.
        done: the directory is complete.
    """

    source: bytes
    target: bytes
    given: bool = False
    done: os.stat_result | None = None


def copy(options: argparse.Namespace) -> int:
    """Copy what a command line names; returns 1 if anything could not be copied."""
    sources, target = _split(options)
    is_directory = os.path.isdir(target) and not options.no_directory
    needs_directory = len(sources) > 1 or options.directory is not None
    if not is_directory and (needs_directory or (target.endswith(b"/") and not os.path.isdir(sources[0]))):
        problem = os.strerror(errno.ENOTDIR if os.path.lexists(target) else errno.ENOENT)
        return complain(f"copy: target {_quoted(target)}: {problem}", FAILED)
    copier = Copier(
        options.socket,
        reflink=options.reflink,
        sparse=options.sparse,
        verify=options.verify,
        progress=not options.quiet,
    )
    with contextlib.closing(copier):
        trees = Trees(options, copier)
        for source in sources:
            trees.copy(source, os.path.join(target, _name(source)) if is_directory else target)
        return trees.status


def _split(options: argparse.Namespace) -> tuple[list[bytes], bytes]:
    words = [os.fsencode(word) for word in options.files]
    if options.directory is not None:
        if options.no_directory:
            raise UsageError("-T: given with -t; use only one of them")
        if not words:
            raise UsageError("no file is given to copy")
        return words, os.fsencode(options.directory)
    if len(words) < 2:
        raise UsageError(
            f"no target is given for {_quoted(words[0])}" if words else "no file is given to copy"
        )
    if options.no_directory and len(words) > 2:
        raise UsageError(f"-T: {_quoted(words[2])} is one word too many; it takes a source and a target")
    return words[:-1], words[-1]


def _name(source: bytes) -> bytes:
    """The name that a source has below the target; "." and ".." have none."""
    name = os.path.basename(source.rstrip(b"/")) or b"/"
    return b"" if name in (b".", b"..", b"/") else name


class Trees:
    """Copies one source after the other."""

    def __init__(self, options: argparse.Namespace, copier: Copier) -> None:
        """Nothing is copied yet."""
        self.status = DONE
        self._options = options
        self._recursive = bool(options.recursive or options.archive)
        self._preserve = bool(options.preserve or options.archive)
        self._copier = copier
        self._made: set[tuple[int, int]] = set()
        self._links: dict[tuple[int, int], bytes] = {}
        mask = os.umask(0)
        os.umask(mask)
        self._mask = mask

    def copy(self, source: bytes, target: bytes) -> None:
        """Copy a file, or a tree with -r; reports what cannot be copied."""
        waiting = [_Task(source, target, given=True)]
        while waiting:
            task = waiting.pop()
            try:
                waiting += self._step(task)
            except Refused as error:
                self._complain(str(error))
            except OSError as error:
                name = error.filename if isinstance(error.filename, bytes) else task.source
                self._complain(f"{_quoted(name)}: {error.strerror or error}")
            except KtaskError as error:
                self._complain(f"{_quoted(task.source)}: {problem_of(error)}")
                if error.code == "UNAVAILABLE":
                    raise

    def _complain(self, problem: str) -> None:
        self.status = complain(f"copy: {problem}", FAILED)

    def _step(self, task: _Task) -> list[_Task]:
        """Copy one file or make one directory; returns what is to be copied next, last first."""
        if task.done is not None:
            self._complete(task, task.done)
            return []
        status = os.stat(task.source) if self._follows(task) else os.lstat(task.source)
        if stat.S_ISDIR(status.st_mode):
            return self._directory(task, status)
        self._file(task, status)
        return []

    def _follows(self, task: _Task) -> bool:
        """Whether a link is followed."""
        if self._options.follow:
            return bool(self._options.follow == "all")
        return task.given and not self._recursive

    def _directory(self, task: _Task, status: os.stat_result) -> list[_Task]:
        if not self._recursive:
            raise Refused(f"-r not specified; omitting directory {_quoted(task.source)}")
        if os.path.lexists(task.target) and not os.path.isdir(task.target):
            raise Refused(
                f"cannot overwrite non-directory {_quoted(task.target)} with directory {_quoted(task.source)}"
            )
        if _is_within(task.target, status):
            raise Refused(
                f"cannot copy a directory, {_quoted(task.source)}, into itself, {_quoted(task.target)}"
            )
        names = sorted(os.listdir(task.source), reverse=True)
        if not os.path.isdir(task.target):
            os.mkdir(task.target, _LATER)
            self._report(task)
            finished = [_Task(task.source, task.target, done=status)]
        else:
            finished = [_Task(task.source, task.target, done=status)] if self._preserve else []
        made = os.stat(task.target)
        self._made.add((made.st_dev, made.st_ino))
        tasks = [_Task(os.path.join(task.source, n), os.path.join(task.target, n)) for n in names]
        return finished + tasks

    def _complete(self, task: _Task, status: os.stat_result) -> None:
        if self._preserve:
            keep(task.source, task.target, status, everything=self._options.archive)
        else:
            os.chmod(task.target, stat.S_IMODE(status.st_mode) & 0o777 & ~self._mask)

    def _file(self, task: _Task, status: os.stat_result) -> None:
        there = _status(task.target)
        if there is not None:
            self._check_existing(task, status, there)
            if self._options.no_clobber:
                return
        if self._is_linked(task, status):
            return
        is_link = stat.S_ISLNK(status.st_mode)
        if stat.S_ISREG(status.st_mode) or not (self._recursive or is_link):
            self._content(task, status)
        else:
            self._special(task, status, there)
        made = os.lstat(task.target)
        self._made.add((made.st_dev, made.st_ino))
        self._report(task)

    def _check_existing(self, task: _Task, status: os.stat_result, there: os.stat_result) -> None:
        """Raise Refused if the target cannot be replaced by this source."""
        source, target = _quoted(task.source), _quoted(task.target)
        if os.path.samestat(status, there) or self._is_same(task, status):
            raise Refused(f"{source} and {target} are the same file")
        if stat.S_ISDIR(there.st_mode):
            raise Refused(f"cannot overwrite directory {target} with non-directory {source}")
        if (there.st_dev, there.st_ino) in self._made:
            raise Refused(f"will not overwrite just-created {target} with {source}")

    def _is_same(self, task: _Task, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(status, os.stat(task.target))
        except OSError:
            return False

    def _is_linked(self, task: _Task, status: os.stat_result) -> bool:
        """Make a link for a file that was copied under another name, with -a."""
        if not self._options.archive or status.st_nlink < 2:
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), task.target)
        if first == task.target:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(task.target)
        os.link(first, task.target, follow_symlinks=False)
        self._report(task)
        return True

    def _content(self, task: _Task, status: os.stat_result) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
        # A link that has replaced the file meanwhile is not followed.
        flags |= 0 if self._follows(task) else os.O_NOFOLLOW
        with (
            open(os.open(task.source, flags), "rb", buffering=0) as source,
            self._opened(task) as (target, is_new),
        ):
            self._copier.copy(task.source, source, target)
            if is_new and not self._preserve:
                os.fchmod(target.fileno(), stat.S_IMODE(status.st_mode) & 0o777 & ~self._mask)
        if self._preserve:
            keep(task.source, task.target, status, everything=self._options.archive)

    @contextlib.contextmanager
    def _opened(self, task: _Task) -> Iterator[tuple[Any, bool]]:
        """The target, empty, and whether it is new; a new one is removed if it cannot be completed."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY
        try:
            fd, is_new = os.open(task.target, flags | os.O_CREAT | os.O_EXCL, 0o600), True
        except FileExistsError:
            fd, is_new = self._existing(task, flags)
        with open(fd, "r+b" if not _is_stream(fd) else "wb", buffering=0) as target:
            try:
                yield target, is_new
            except BaseException:
                if is_new:
                    with contextlib.suppress(OSError):
                        os.unlink(task.target)
                raise

    def _existing(self, task: _Task, flags: int) -> tuple[int, bool]:
        if os.path.islink(task.target) and not os.path.exists(task.target):
            raise Refused(f"not writing through dangling symlink {_quoted(task.target)}")
        try:
            status = os.stat(task.target)
            if not stat.S_ISREG(status.st_mode):
                return os.open(task.target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), False
            return os.open(task.target, flags | os.O_TRUNC), False
        except PermissionError:
            # A job maps its target, so it must be readable as well.
            if not self._options.force:
                raise
            os.unlink(task.target)
            return os.open(task.target, flags | os.O_CREAT | os.O_EXCL, 0o600), True

    def _special(self, task: _Task, status: os.stat_result, there: os.stat_result | None) -> None:
        """Make a link, a pipe or a device like the source."""
        if there is not None:
            os.unlink(task.target)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(task.source), task.target)
        else:
            mode = stat.S_IFMT(status.st_mode) | (stat.S_IMODE(status.st_mode) & 0o777 & ~self._mask)
            os.mknod(task.target, mode, status.st_rdev)
        if self._preserve:
            keep(task.source, task.target, status, everything=self._options.archive)

    def _report(self, task: _Task) -> None:
        if self._options.verbose:
            line = f"{_quoted(task.source, chr(39))} -> {_quoted(task.target, chr(39))}"
            if sys.stdout is not None:
                print(line, flush=True)


def _quoted(name: bytes, mark: str = '"') -> str:
    return f"{mark}{printable(os.fsdecode(name))}{mark}"


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _is_within(path: bytes, directory: os.stat_result) -> bool:
    """Whether a path, which need not exist yet, is a directory or below it."""
    path = os.path.dirname(os.path.abspath(path))
    while True:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), directory):
                return True
        if path == b"/":
            return False
        path = os.path.dirname(path)


def _is_stream(fd: int) -> bool:
    return not stat.S_ISREG(os.fstat(fd).st_mode)
