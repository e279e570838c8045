"""A job over several files: a bad file is found, and does not stop the others."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ktask import convert
from ktask.cli.streams import DASH, input_source, named
from ktask.core import Draft
from ktask.errors import JobFailed, KtaskError
from ktask.link.session import Session
from ktask.results import JobState
from ktask.source import kind_name

_CHUNK_BYTES = 4 << 20
_CHUNK_FILES = 64

_OF_A_FILE = frozenset(
    {
        *("FD_UNSUITABLE", "KEEPER_SILENT", "ACCESS_MISSING", "SOURCE_INVALID", "LIMIT_EXCEEDED"),
        *("FUNCTION_ERROR", "WORKER_LOST", "WORKER_STUCK"),
    }
)
"""Reasons of a refused or failed job that may be the fault of one of its files."""

_ITEM = re.compile(r"spec\.items\[(\d+)\]")

Result = Mapping[str, Any]
Asked = TypeVar("Asked")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file could not be read, and why."""

    problem: str


@dataclass(frozen=True, slots=True)
class Opened(Generic[Asked]):
    """One file of a batch, or why it could not be opened."""

    asked: Asked
    file: Any
    problem: str = ""

    @property
    def size(self) -> int:
        """Its current length in bytes."""
        return os.fstat(self.file.fileno()).st_size


def open_file(name: bytes, end: contextlib.ExitStack, *, follow: bool = True) -> Any:
    """Open a regular file, or standard input for "-"; raises OSError, ELOOP for a link without `follow`."""
    if name == os.fsencode(DASH):
        return input_source("-", end)
    # O_NONBLOCK: do not wait for a fifo that has replaced the file.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    fd = os.open(name, flags if follow else flags | os.O_NOFOLLOW)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, f"is a {kind_name(mode)}, wanted a regular file")
    return end.enter_context(named(fd, name, "rb"))


def min_chunk(files: Sequence[Opened[Asked]]) -> int:
    """How many of these files a worker gets at least at a time, so that small ones are worth a message."""
    size = sum(one.size for one in files)
    return max(min(_CHUNK_FILES, _CHUNK_BYTES * len(files) // max(size, 1)), 1)


def results(session: Session, draft: Draft) -> list[Result]:
    """The results of a job's items or positions, in order; raises JobFailed, KtaskError."""
    job = convert.job(session.run(draft))
    if job.state is not JobState.SUCCEEDED:
        raise JobFailed(job)
    items = (job.result or {}).get("items")
    if items is not None:
        return list(items)
    return [convert.plain(one.result) for message in session.watch(id=job.id) for one in message.results]


def each(run: Callable[[range], list[Result]], numbers: range) -> list[Result | Unreadable]:
    """The result of each file, by one job if possible, otherwise by several smaller ones.

    Args:
        run: runs a job on the files with these numbers.
    Raises:
        KtaskError: no file is at fault: the daemon is gone, or accepts no job.
    """
    found: list[Result | Unreadable] = []
    waiting = [numbers]
    while waiting:
        part = waiting.pop()
        if not part:
            continue
        try:
            found += run(part)
        except KtaskError as error:
            if not _may_be_a_file(error, len(part)):
                raise
            if len(part) == 1:
                found.append(Unreadable(problem_of(error)))
                continue
            first, after = _suspects(error, len(part))
            waiting += [part[after:], part[first:after], part[:first]]
    return found


def each_readable(
    opened: Sequence[Opened[Asked]], run: Callable[[list[Opened[Asked]]], list[Result]]
) -> list[Result | Unreadable]:
    """The result of each file as by `each`, or why it could not be opened.

    Args:
        run: runs a job on these open files.
    """
    readable = [one for one in opened if one.file]
    found = iter(each(lambda numbers: run([readable[i] for i in numbers]), range(len(readable))))
    return [next(found) if one.file else Unreadable(one.problem) for one in opened]


def problem_of(error: KtaskError) -> str:
    """Return the message to print for the one file of a job that failed."""
    message = error.message
    if isinstance(error, JobFailed) and error.job.error is not None:
        message = error.job.error.message or error.reason
    # The command names the file by its path instead.
    return re.sub(r'^(items\[\d+\]|source "(data|items\[\d+\])"): ', "", message)


def is_of_a_file(error: KtaskError) -> bool:
    """Whether a file may be at fault for a refused or failed job."""
    return error.reason in _OF_A_FILE


def _may_be_a_file(error: KtaskError, count: int) -> bool:
    # The daemon may have room for fewer files at once.
    return is_of_a_file(error) or (count > 1 and error.code == "RESOURCE_EXHAUSTED")


def _suspects(error: KtaskError, count: int) -> tuple[int, int]:
    """The range of files that may contain the bad one; fewer than all."""
    number = _ITEM.fullmatch(error.field)
    if number is not None and int(number[1]) < count:
        return int(number[1]), int(number[1]) + 1
    chunk = error.job.error.chunk if isinstance(error, JobFailed) and error.job.error else None
    if chunk is not None and 0 <= chunk.start < chunk.end <= count and chunk.end - chunk.start < count:
        return chunk.start, chunk.end
    return 0, count // 2
