"""Batches of open files, several at a time: while a job works on one, the next are opened and handed over."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from ktask.cli.arguments import UsageError
from ktask.cli.batches import Opened, open_file
from ktask.link.caller import Pending
from ktask.link.session import Session

FILES_PER_JOB = 500
"""Files open for one job; the usual limit of a process is 1024 descriptors for all jobs."""

JOBS_AHEAD = 3
"""Jobs at the same time: one is handed over, one runs, and one ends."""

_SPARE_FILES = 24
"""Descriptors left for connections to the daemon and memory for digests."""

Asked = TypeVar("Asked")
Outcome = TypeVar("Outcome")
Work = Callable[[Sequence[Opened[Asked]]], list[Outcome]]
Open = Callable[[bytes, contextlib.ExitStack], Any]


@dataclass(frozen=True, slots=True)
class _Batch(Generic[Asked]):
    """Open files, and what closes them."""

    opened: list[Opened[Asked]]
    files: contextlib.ExitStack


class _Opener(Generic[Asked]):
    """Opens files, as many at a time as this process's descriptors allow."""

    def __init__(self, asked: Iterable[Asked], name_of: Callable[[Asked], bytes], open_one: Open) -> None:
        self._open = open_one
        self._rest = iter(asked)
        self._name_of = name_of
        self._waiting: deque[Asked] = deque()

    def next(self, running: int) -> _Batch[Asked] | None:
        """The next files; None if there are none, or if those of the `running` jobs leave no descriptor.

        A batch ends early when no descriptor is left.
        """
        most = room_for(running)
        batch: _Batch[Asked] = _Batch([], contextlib.ExitStack())
        while len(batch.opened) < most and self._add(batch, alone=not running):
            pass
        return batch if batch.opened else None

    def _add(self, batch: _Batch[Asked], *, alone: bool) -> bool:
        """Open the next file; whether there was one, and a descriptor for it."""
        if not self._waiting:
            self._waiting.extend(islice(self._rest, 1))
        if not self._waiting:
            return False
        one = self._waiting.popleft()
        try:
            batch.opened.append(Opened(one, self._open(self._name_of(one), batch.files)))
        except OSError as error:
            shared = not alone or any(other.file for other in batch.opened)
            if shared and error.errno in (errno.EMFILE, errno.ENFILE):
                self._waiting.appendleft(one)
                return False
            batch.opened.append(Opened(one, None, error.strerror or str(error)))
        except UsageError as error:
            batch.opened.append(Opened(one, None, str(error)))
        return True


def room_for(running: int) -> int:
    """How many files this process may open for one more job; 0 if `running` jobs have taken all."""
    least = 0 if running else 1
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        room = limit - len(os.listdir("/proc/self/fd")) - _SPARE_FILES
    except OSError:
        return least
    return min(max(room // (JOBS_AHEAD - running), least), FILES_PER_JOB)


def in_order(
    session: Session,
    asked: Iterable[Asked],
    name_of: Callable[[Asked], bytes],
    work: Work[Asked, Outcome],
    open_one: Open = open_file,
) -> Iterator[list[tuple[Opened[Asked], Outcome]]]:
    """Yield batches of files with their outcomes, in the order of `asked`.

    Args:
        work: makes the outcomes of a batch, one for each file; called in other threads, for up to
            JOBS_AHEAD batches at the same time. The files are open until their batch was yielded.
        open_one: opens a file by its name; the stack closes it. Raises OSError or UsageError.
    Raises:
        KtaskError, or whatever `work` raises first. The session is closed then, which cancels its jobs.
    """
    opener = _Opener(asked, name_of, open_one)
    begun: deque[tuple[_Batch[Asked], Pending[list[Outcome]]]] = deque()
    try:
        while True:
            while len(begun) < JOBS_AHEAD and (batch := opener.next(len(begun))) is not None:
                pending = Pending(lambda opened=batch.opened: work(opened))  # type: ignore[misc]
                begun.append((batch, pending))
                session.caller.start(pending)
            if not begun:
                return
            batch, pending = begun[0]
            yield list(zip(batch.opened, pending.result(), strict=True))
            begun.popleft()
            batch.files.close()
    finally:
        _give_up(session, begun)


def _give_up(session: Session, begun: Iterable[tuple[_Batch[Asked], Pending[list[Outcome]]]]) -> None:
    """End what was begun; a file is closed when no thread uses its descriptor any more."""
    for batch, pending in begun:
        if not pending.withdraw():
            session.close()
            with contextlib.suppress(Exception):
                pending.result()
        batch.files.close()
