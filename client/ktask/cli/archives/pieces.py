"""A stream in pieces of bounded size, several at a time in work, in their order."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Protocol, TypeVar

from ktask.cli.streams import DASH, named
from ktask.link.caller import Pending
from ktask.link.session import Session

PIECE_BYTES = 16 << 20
PIECES_AHEAD = 4
"""Pieces in memory at the same time, each with its result."""

_READ = 1 << 20

Outcome = TypeVar("Outcome")


class Closable(Protocol):
    """A piece of work with something to close."""

    def close(self) -> None:
        """Close it."""


Piece = TypeVar("Piece", bound=Closable)


def pieces(fd: int) -> Iterator[IO[bytes]]:
    """Yield the content of a descriptor in files in memory; an empty one if there is nothing.

    The caller closes them.
    """
    is_first = True
    while True:
        piece, is_last = _piece(fd)
        if is_first or not is_last or os.fstat(piece.fileno()).st_size:
            yield piece
        else:
            piece.close()
        if is_last:
            return
        is_first = False


def _piece(fd: int) -> tuple[IO[bytes], bool]:
    """The next piece, and whether the end was reached."""
    piece = in_memory()
    left = PIECE_BYTES
    try:
        while left:
            data = os.read(fd, min(left, _READ))
            if not data:
                return piece, True
            piece.write(data)
            left -= len(data)
    except BaseException:
        piece.close()
        raise
    return piece, False


def in_memory() -> IO[bytes]:
    """An empty file in memory, which can grow. Its name is "-", as of the stream that it is a piece of."""
    return named(os.memfd_create("ktask", os.MFD_CLOEXEC), os.fsencode(DASH), "r+b")


def worked(
    session: Session, given: Iterable[Piece], work: Callable[[Piece], Outcome], ahead: int
) -> Iterator[Outcome]:
    """Yield the outcome of each piece, in order; each piece is closed after that.

    Args:
        work: called in other threads, for up to `ahead` pieces at the same time.
    Raises:
        KtaskError, or whatever `work` raises first. The session is closed then, which cancels its jobs.
        A caller that wants no more outcomes waits for the jobs that were begun.
    """
    begun: deque[tuple[Piece, Pending[Outcome]]] = deque()
    rest = iter(given)
    cancels = True
    try:
        while True:
            while len(begun) < ahead and (piece := next(rest, None)) is not None:
                pending = Pending(lambda piece=piece: work(piece))  # type: ignore[misc]
                begun.append((piece, pending))
                session.caller.start(pending)
            if not begun:
                return
            piece, pending = begun[0]
            yield pending.result()
            begun.popleft()
            piece.close()
    except GeneratorExit:
        cancels = False
        raise
    finally:
        for piece, pending in begun:
            if not pending.withdraw():
                if cancels:
                    session.close()
                with contextlib.suppress(Exception):
                    pending.result()
            piece.close()


def send(piece: IO[bytes]) -> None:
    """Write a file in memory to standard output; raises OSError."""
    piece.seek(0)
    sys.stdout.flush()
    while data := piece.read(_READ):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
