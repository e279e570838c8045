"""Writes the lines that match to memory, so that a client can print all of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.quanta import BUFFER, PAGE, Buffered
from ktaskd.functions.text.matching import CannotMatch, Matcher, forget_patterns, matcher_of
from ktaskd.functions.text.scanning import LINE_BYTES_MAX, Scan
from ktaskd.functions.transfer import require_size, write_full

_NEWLINE = 10

_FEW = 16
"""Lines of one buffer up to which each is written alone. Then pages without a line stay without storage."""

_MANY = 1000
"""Lines of one buffer from which they are marked, which takes 1 ms for 256 KiB, not found one by one."""


class Extract(Buffered):
    """text.extract.

    Each line is written at its own position, so chunks need not know of each other, and a chunk that is run
    again writes the same bytes.
    """

    quantum = BUFFER

    def wipe(self) -> None:
        """Forget texts and patterns, and shrink the buffer that a long line extended."""
        super().wipe()
        del self._buffer[BUFFER:]
        forget_patterns()

    def prepare(self, context: Context) -> Json:
        """Refuse an unusable pattern, and memory that is too short."""
        try:
            matcher_of(context.arg)
        except CannotMatch as error:
            raise OSError(errno.EINVAL, f'argument "pattern": {error}') from error
        start, end = context.span
        if start < (base := int(context.arg["base"])):
            raise OSError(errno.EINVAL, f'argument "base": got {base}, wanted at most {start}')
        # The last line may reach beyond the last range.
        reach = min(context.sources["data"].size(), end + LINE_BYTES_MAX)
        require_size(context.sources["lines"], "lines", reach - base)
        return {}

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Extract the lines that begin in a span."""
        lines = _Lines(
            context.sources["lines"], int(context.arg["base"]), compact=bool(context.arg["compact"])
        )
        scan = Scan(self._buffer, context, control, lines)
        return scan.run(start, end), lines.part()

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Make a hole of all that lines which begin in the span may have been written to."""
        base, data = int(context.arg["base"]), context.sources["data"]
        memory = context.sources["lines"]
        memory.punch(start - base, min(_line_end(data, end), memory.size() + base) - base)
        return []

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sum of the counts, and the first line with a zero byte."""
        zeros = [part["zero"] for part in parts if part["zero"] >= 0]
        return {"count": sum(part["count"] for part in parts), "zero": min(zeros, default=-1)}


def _line_end(data: OpenSource, end: int) -> int:
    """End of the line that is not over at `end`; `end` if none is."""
    at = end - 1
    while at < end + LINE_BYTES_MAX and (piece := os.pread(data.fd, BUFFER, at)):
        found = piece.find(b"\n")
        if found >= 0:
            return max(end, at + found + 1)
        at += len(piece)
    return at


class _Lines:
    """Writes lines to memory."""

    whole = True

    def __init__(self, memory: OpenSource, base: int, *, compact: bool) -> None:
        self._memory = memory
        self._base = base
        self._compact = compact
        self._count, self._zero = 0, -1
        self._is_dense = False

    def take(self, matcher: Matcher, text: bytearray, stop: int, at: int) -> None:
        """As Sink. Texts without a match are passed over at the speed of counting."""
        count = _MANY if self._is_dense else matcher.count(text, stop)
        if not count:
            if self._compact:
                self._write_compact(b"", at, _length(text, stop))
            return
        flags = matcher.flags(text, stop) if count >= _MANY else None
        if flags is None:
            self._one_by_one(matcher, text, stop, at)
        else:
            self._all(flags, text, stop, at)

    def take_long(self, at: int, begin: bytes) -> None:
        """Never called: lines are taken whole."""
        raise NotImplementedError

    def part(self) -> Json:
        """The part of the result."""
        return {"count": self._count, "zero": self._zero}

    def _one_by_one(self, matcher: Matcher, text: bytearray, stop: int, at: int) -> None:
        last = _length(text, stop)
        spans = [(first, min(after + 1, last)) for first, after in matcher.lines(text, stop)]
        self._count += len(spans)
        self._is_dense = len(spans) >= _MANY
        has_zero = text.find(0, 0, stop) >= 0
        if self._zero < 0 and has_zero:
            self._zero = next((at + first for first, after in spans if text.find(0, first, after) >= 0), -1)
        with memoryview(text) as view:
            # Zeros within lines could not be told from the gaps that compact lines leave.
            if self._compact and not has_zero:
                self._write_compact(b"".join([view[first:after] for first, after in spans]), at, last)
                return
            if len(spans) > _FEW:
                view, spans = _block(view, spans), [(spans[0][0], spans[-1][1])]
            for first, after in spans:
                self._write(at + first, view[first:after])

    def _all(self, flags: NDArray[np.bool_], text: bytearray, stop: int, at: int) -> None:
        """Write all lines at once. There is no zero byte in the text."""
        found = int(np.count_nonzero(flags))
        self._count += found
        self._is_dense = found >= _MANY
        last = _length(text, stop)
        content = np.frombuffer(text, np.uint8, last)
        ends = np.flatnonzero(content == _NEWLINE) + 1
        if len(ends) < len(flags):
            # The last line has no newline.
            ends = np.append(ends, last)
        keep = np.repeat(flags, np.diff(ends, prepend=0))
        if self._compact:
            self._write_compact(content[keep].data, at, last)
        else:
            self._write(at, (content * keep).data)

    def _write_compact(self, lines: bytes | memoryview, at: int, length: int) -> None:
        """Write lines at the begin of a text, and zeros up to its end.

        A run before this one, whose worker died, may have left lines of a longer text there.
        """
        end, after = at + len(lines) - self._base, at + length - self._base
        self._write(at, memoryview(lines))
        edge = min(end + -end % PAGE, after)
        self._write(end + self._base, memoryview(bytes(edge - end)))
        if edge < after:
            self._memory.punch(edge, after)

    def _write(self, at: int, content: memoryview) -> None:
        write_full(self._memory, "lines", at - self._base, content)


def _block(view: memoryview, spans: Sequence[tuple[int, int]]) -> memoryview:
    """Return the same text with zeros between these spans."""
    block = bytearray(spans[-1][1])
    for first, after in spans:
        block[first:after] = view[first:after]
    return memoryview(block)


def _length(text: bytearray, stop: int) -> int:
    """The length of the lines of text[:stop], with the newline of the last one if there is one."""
    return stop + text.startswith(b"\n", stop)
