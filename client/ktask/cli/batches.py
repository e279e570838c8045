"""Many files in few jobs: one that cannot be worked on is found, and does not stop the others."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, Generic, TypeVar

from ktask import convert
from ktask.cli.arguments import UsageError
from ktask.cli.streams import DASH, input_source
from ktask.core import Draft
from ktask.errors import JobFailed, KtaskError
from ktask.link.session import Session
from ktask.results import JobState
from ktask.source import kind_name

FILES_PER_JOB = 500
"""Open at one time; a process may have 1024 without asking for more."""

_SPARE_FILES = 24
"""Descriptors that connections to the daemon and memory for digests may need meanwhile."""

_OF_A_FILE = frozenset(
    {
        *("FD_UNSUITABLE", "KEEPER_SILENT", "ACCESS_MISSING", "SOURCE_INVALID", "LIMIT_EXCEEDED"),
        *("FUNCTION_ERROR", "WORKER_LOST", "WORKER_STUCK"),
    }
)
"""Reasons for which one of the files may be why a job was refused or failed."""

_ITEM = re.compile(r"spec\.items\[(\d+)\]")

Result = Mapping[str, Any]
Asked = TypeVar("Asked")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file could not be read, and why."""

    problem: str


@dataclass(frozen=True, slots=True)
class Opened(Generic[Asked]):
    """One of the files of a batch, or why it could not be opened."""

    asked: Asked
    file: Any
    problem: str = ""

    @property
    def size(self) -> int:
        """Its bytes now."""
        return os.fstat(self.file.fileno()).st_size


@contextlib.contextmanager
def _closing(opened: Sequence[Opened[Asked]], end: contextlib.ExitStack) -> Iterator[Sequence[Opened[Asked]]]:
    with end:
        yield opened


def batches(
    asked: Iterable[Asked], name_of: Callable[[Asked], bytes]
) -> Iterator[contextlib.AbstractContextManager[Sequence[Opened[Asked]]]]:
    """Open files, as many at one time as this process may; each batch is closed by `with`.

    Where a job needs the last descriptors, a batch is smaller. A batch must be closed
    before the next one is taken.
    """
    rest, waiting = iter(asked), deque[Asked]()
    while True:
        most = _most()
        waiting.extend(islice(rest, most - len(waiting)))
        if not waiting:
            return
        end, opened = contextlib.ExitStack(), list[Opened[Asked]]()
        while waiting and len(opened) < most:
            one = waiting.popleft()
            try:
                opened.append(Opened(one, _open(name_of(one), end)))
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE) and any(other.file for other in opened):
                    waiting.appendleft(one)
                    break
                opened.append(Opened(one, None, error.strerror or str(error)))
            except UsageError as error:
                opened.append(Opened(one, None, str(error)))
        yield _closing(opened, end)


def _most() -> int:
    """Files that may be opened now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):
        return min(max(limit - len(os.listdir("/proc/self/fd")) - _SPARE_FILES, 1), FILES_PER_JOB)
    return 1


def _open(name: bytes, end: contextlib.ExitStack) -> Any:
    """A regular file, or what "-" stands for; raises OSError."""
    if name == os.fsencode(DASH):
        return input_source("-", end)
    # A fifo that came in place of the file must not be waited for.
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, f"is a {kind_name(mode)}, wanted a regular file")
    file: IO[bytes] = os.fdopen(fd, "rb", buffering=0)
    return end.enter_context(file)


def results(session: Session, draft: Draft) -> list[Result]:
    """What a job reports of each position, in order; raises JobFailed, KtaskError."""
    job = convert.job(session.run(draft))
    if job.state is not JobState.SUCCEEDED:
        raise JobFailed(job)
    items = (job.result or {}).get("items")
    if items is not None:
        return list(items)
    return [convert.plain(one.result) for message in session.watch(id=job.id) for one in message.results]


def each(run: Callable[[range], list[Result]], numbers: range) -> list[Result | Unreadable]:
    """The result of each file, by one job where that works, and else by several smaller ones.

    Args:
        run: works on the files of these numbers.
    Raises:
        KtaskError: it is not about a file: the daemon is gone, or takes no job.
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


def problem_of(error: KtaskError) -> str:
    """Return the message to print for the one file of a job that failed."""
    message = error.message
    if isinstance(error, JobFailed) and error.job.error is not None:
        message = error.job.error.message or error.reason
    # It is named by its path instead.
    return re.sub(r'^(items\[\d+\]|source "(data|items\[\d+\])"): ', "", message)


def is_of_a_file(error: KtaskError) -> bool:
    """Whether a job was refused, or failed, for what its file is."""
    return error.reason in _OF_A_FILE


def _may_be_a_file(error: KtaskError, count: int) -> bool:
    # Of fewer files at one time it may have enough room.
    return is_of_a_file(error) or (count > 1 and error.code == "RESOURCE_EXHAUSTED")


def _suspects(error: KtaskError, count: int) -> tuple[int, int]:
    """Which of some files may be the bad one; fewer than all."""
    number = _ITEM.fullmatch(error.field)
    if number is not None and int(number[1]) < count:
        return int(number[1]), int(number[1]) + 1
    chunk = error.job.error.chunk if isinstance(error, JobFailed) and error.job.error else None
    if chunk is not None and 0 <= chunk.start < chunk.end <= count and chunk.end - chunk.start < count:
        return chunk.start, chunk.end
    return 0, count // 2
