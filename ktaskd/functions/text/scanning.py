"""Searches the lines of a source that begin in a span, however the source is cut."""

from __future__ import annotations

import errno
import os
from typing import Protocol

from ktaskd.functions.body import Context, Control, OpenSource
from ktaskd.functions.quanta import BUFFER, pass_over
from ktaskd.functions.text.matching import Matcher, matcher_of
from ktaskd.functions.transfer import Naming, require_size
from ktaskd.model.limits import QUANTUM_BYTES_MAX

TEXT_BYTES = 1000
"""Limit of the begin of a long line that a sink is given."""

LINE_BYTES_MAX = QUANTUM_BYTES_MAX
"""Limit of the lines that can be searched as a whole."""

_NEWLINE = b"\n"


class Sink(Protocol):
    """Takes the lines that match."""

    whole: bool
    """Whether it needs the whole text of a line, which then has a limit."""

    def take(self, matcher: Matcher, text: bytearray, stop: int, at: int) -> None:
        """Take the lines of text[:stop] that match; `at` is the position of the text in the source."""

    def take_long(self, at: int, begin: bytes) -> None:
        """Take one line that is longer than the buffer and begins with these bytes. Not if `whole`."""


class Scan:
    """Searches the lines of one source that begin in one span.

    Args:
        buffer: of BUFFER bytes; a long line extends it.
        sink: takes the lines that match.
        item: position of the source among the items, reported instead of the byte reached; None = the
            source is "data".
    """

    def __init__(
        self, buffer: bytearray, context: Context, control: Control, sink: Sink, item: int | None = None
    ) -> None:
        """Search for the pattern of a context."""
        self._matcher: Matcher = matcher_of(context.arg)
        self._buffer = buffer
        self._control = control
        self._sink = sink
        self._item = item
        self._role = "data" if item is None else f"items[{item}]"
        self._source: OpenSource = context.sources["data"] if item is None else context.items[item]
        self._recalled = False

    def run(self, start: int, end: int) -> int:
        """Search [start, end) until control stops it; returns the position reached."""
        require_size(self._source, self._role, end)
        at = self._pass(start, self._line_begin(start, end))
        while at < end and not self._stops(at):
            size = self._source.size()
            whole = self._fill(at, BUFFER)
            cut = whole if at + whole >= size else self._buffer.rfind(_NEWLINE, 0, whole) + 1
            after = at + self._search(at, end, cut) if cut else self._long_line(at, end, size)
            if self._recalled:
                return at
            at = self._pass(at, min(after, end))
        return min(at, end)

    def _pass(self, at: int, after: int) -> int:
        """Report the rest of a long line, in which no other line begins; returns the position reached."""
        if self._item is not None:
            return after
        reached = pass_over(self._control, at, after, BUFFER)
        self._recalled = self._recalled or reached < after
        return reached

    def _stops(self, at: int) -> bool:
        self._recalled = self._recalled or self._control.quantum(at if self._item is None else self._item)
        return self._recalled

    def _fill(self, at: int, length: int, kept: int = 0) -> int:
        """Read up to `length` bytes from `at` on into the buffer; returns the number of bytes.

        Args:
            kept: number of these bytes that the buffer holds already.
        """
        if len(self._buffer) < length:
            self._buffer.extend(bytes(length - len(self._buffer)))
        done = kept
        with memoryview(self._buffer)[:length] as view, Naming(self._role, "read", at, at + length):
            while done < length:
                count = os.preadv(self._source.fd, [view[done:]], at + done)
                if count == 0:
                    break
                done += count
        # The source was that long when its length was read.
        require_size(self._source, self._role, at + max(done, kept + 1))
        return done

    def _line_begin(self, start: int, end: int) -> int:
        """Begin of the first line in [start, end); `end` if no line begins there."""
        at = start - 1
        while 0 <= at < end - 1:
            if self._stops(start):
                return start
            count = self._fill(at, min(BUFFER, end - 1 - at))
            found = self._buffer.find(_NEWLINE, 0, count)
            if found >= 0:
                return at + found + 1
            at += count
        return end if start > 0 else 0

    def _search(self, at: int, end: int, cut: int) -> int:
        """Search whole lines in the first `cut` bytes of the buffer; returns the bytes of this chunk."""
        if at + cut > end:
            # A line that begins beyond the end belongs to another chunk.
            cut = self._buffer.find(_NEWLINE, end - at - 1, cut) + 1 or cut
        stop = cut - 1 if self._buffer[cut - 1] == _NEWLINE[0] else cut
        if stop == cut and self._buffer.startswith(_NEWLINE, cut):
            self._buffer[cut] = 0  # of an earlier text: the last line of this one has no newline
        self._sink.take(self._matcher, self._buffer, stop, at)
        return cut
        for first, after in self._matcher.lines(self._buffer, stop):
            line = bytes(self._buffer[first : min(after, first + TEXT_BYTES)])
            self.tally.add(at + first, line, after - first)
        return cut

    def _long_line(self, at: int, end: int, size: int) -> int:
        """Search a line that is longer than the buffer; returns the begin of the next line, or `end`."""
        if self._matcher.overlap is None:
            return at + self._search(at, end, self._whole_line(at, size))
        begin = bytes(self._buffer[:TEXT_BYTES])
        position, found = at, False
        while not self._stops(at):
            count = self._fill(position, BUFFER)
            newline = self._buffer.find(_NEWLINE, 0, count)
            stop = count if newline < 0 else newline
            found = found or self._matcher.is_in(self._buffer, stop)
            if found and self._sink.whole:
                self._fill(at, BUFFER)
                return at + self._search(at, end, self._whole_line(at, size))
            after = position + stop + 1
            if newline >= 0 or position + count >= size or (found and after > end):
                if found:
                    self._sink.take_long(at, begin)
                return after if newline >= 0 else max(end, size)
            position += count - self._matcher.overlap
        return at

    def _too_long(self) -> str:
        limit = f"(limit {LINE_BYTES_MAX} bytes)"
        if self._matcher.overlap is None:
            return f"for a regular expression {limit}; search for a literal instead"
        return f"to be returned whole {limit}; use text.search"

    def _whole_line(self, at: int, size: int) -> int:
        """Read a line into a growing buffer; returns its length, including the newline."""
        count = BUFFER
        while count < LINE_BYTES_MAX:
            # Grow slowly: all bytes after the line are read once more for the next line.
            seen = count
            count = self._fill(at, min(seen + BUFFER, LINE_BYTES_MAX), seen)
            newline = self._buffer.find(_NEWLINE, seen, count)
            if newline >= 0 or at + count >= size:
                return newline + 1 or count
        raise OSError(
            errno.EMSGSIZE,
            f'source "{self._role}": the line at {at} is too long {self._too_long()}',
        )
