"""Stretches of files and streams, several at a time in work: their lines that match."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from ktask import convert
from ktask.cli.archives.pieces import PIECE_BYTES, PIECES_AHEAD, in_memory, worked
from ktask.cli.searching.query import Query
from ktask.core import Draft
from ktask.errors import JobFailed
from ktask.link.session import Session
from ktask.results import JobState

STRETCH_BYTES = 64 << 20
"""Bytes of a file that one job searches, so that the memory with its lines is bounded."""

_LINE_BYTES = 8 << 20
"""Longest line, which may reach beyond its stretch. Source: the function text.extract."""

_READ = 1 << 20
_LINGER_MS = 50
"""Time to wait for more of a stream before its lines so far are searched."""

_NEWLINE = b"\n"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes [start, end) of a source; lines that begin there are searched.

    Args:
        whole: end of the source, which a line of the stretch may reach.
        owned: closed with the stretch.
    """

    source: Any
    start: int
    end: int
    whole: int
    owned: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def close(self) -> None:
        """Close the source if it belongs to the stretch alone."""
        self.owned.close()


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a stretch that match.

    Args:
        memory: has each at its position, less the start of the stretch, or before it, and zeros between.
        zero: position of the first that has a zero byte; -1 = none has.
    """

    stretch: Stretch
    memory: IO[bytes]
    count: int
    zero: int


def of_file(file: Any, step: int = STRETCH_BYTES) -> Iterator[Stretch]:
    """The stretches of a regular file."""
    size = os.fstat(file.fileno()).st_size
    for start in range(0, size, step):
        yield Stretch(file, start, min(start + step, size), size)


def of_stream(fd: int) -> Iterator[Stretch]:
    """The stretches of a stream, each in memory, as they come; a stretch ends with a line."""
    rest = b""
    while True:
        piece = in_memory()
        piece.write(rest)
        rest = _fill(fd, piece, len(rest))
        is_last = rest is None
        size = piece.tell()
        if size:
            owned = contextlib.ExitStack()
            owned.callback(piece.close)
            yield Stretch(piece, 0, size, size, owned)
        else:
            piece.close()
        if is_last:
            return


def _fill(fd: int, piece: IO[bytes], size: int) -> Any:
    """Read lines into a piece; returns the begin of the next line, None at the end of the stream."""
    tail = b""
    while True:
        data = os.read(fd, _READ)
        if not data:
            piece.write(tail)
            return None
        lines, newline, after = (tail + data).rpartition(_NEWLINE)
        piece.write(lines + newline)
        size += len(lines) + len(newline)
        tail = after
        if size >= PIECE_BYTES or (size and not select.select([fd], [], [], _LINGER_MS / 1000)[0]):
            return tail


class Engine:
    """Runs jobs on stretches.

    Args:
        compact: lines need not be at their positions, so there are fewer zeros between them.
    """

    def __init__(self, session: Session, query: Query, *, compact: bool) -> None:
        """Keep them."""
        self.session = session
        self._compact = compact
        self.arg = query.arg()

    def count(self, stretch: Stretch) -> int:
        """How many lines of a stretch match; raises KtaskError."""
        return int(self._run(stretch, "text.search", self.arg, {})["count"])

    def lines(self, stretch: Stretch) -> Lines:
        """The lines of a stretch that match; raises KtaskError. The caller closes the memory."""
        memory = in_memory()
        try:
            os.ftruncate(memory.fileno(), min(stretch.whole, stretch.end + _LINE_BYTES) - stretch.start)
            arg = {**self.arg, "base": stretch.start, "compact": self._compact}
            found = self._run(stretch, "text.extract", arg, {"lines": memory})
            return Lines(stretch, memory, int(found["count"]), int(found["zero"]))
        except BaseException:
            memory.close()
            raise

    def all(self, stretches: Iterator[Stretch], *, ahead: bool) -> Generator[Lines, None, None]:
        """The lines of each stretch, in order; closes the stretches, and the memory after it was used."""
        if ahead:
            found: Iterator[Lines] = worked(self.session, stretches, self.lines, PIECES_AHEAD)
        else:
            found = _one_by_one(stretches, self.lines)
        for lines in found:
            with lines.memory:
                yield lines

    def offsets(self, stretch: Stretch) -> Iterator[int]:
        """The positions of the lines of a stretch that match; slow, for few lines."""
        start = stretch.start
        while start < stretch.end:
            part = Stretch(stretch.source, start, stretch.end, stretch.whole)
            found = self._run(part, "text.search", {**self.arg, "show": "offsets"}, {})
            offsets = [int(offset) for offset in found["offsets"]]
            yield from offsets
            if not found["truncated"]:
                return
            start = offsets[-1] + 1

    def _run(
        self, stretch: Stretch, function: str, arg: dict[str, Any], more: dict[str, Any]
    ) -> dict[str, Any]:
        span = (stretch.start, stretch.end - stretch.start)
        sources = {"data": stretch.source, **more}
        job = convert.job(self.session.run(Draft(function, arg=arg, ranges=[span], sources=sources)))
        if job.state is not JobState.SUCCEEDED or job.result is None:
            raise JobFailed(job)
        return dict(job.result)


def _one_by_one(stretches: Iterator[Stretch], work: Callable[[Stretch], Lines]) -> Iterator[Lines]:
    for stretch in stretches:
        try:
            yield work(stretch)
        finally:
            stretch.close()
