"""Searches files for lines that match, in chunks cut at the ends of lines."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence

from ktaskd.functions import steady
from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.quanta import BUFFER, Buffered, pass_over
from ktaskd.functions.reading import run_each
from ktaskd.functions.text.matching import CannotMatch, Matcher, forget_patterns, matcher_of
from ktaskd.functions.transfer import Naming, require_size
from ktaskd.model.limits import PART_BYTES_MAX, QUANTUM_BYTES_MAX

RETURNED_BYTES = 16 << 10
"""Limit of the matches that a job returns, as JSON. Half as much for an item, so that two fit a part."""

TEXT_BYTES = 1000
"""Limit of the text of one returned line; the rest of the line is left out."""

LINE_BYTES_MAX = QUANTUM_BYTES_MAX
"""Limit of the lines that a regular expression can search. A literal has no limit."""

_NEWLINE = b"\n"
_SHOWN = ("count", "offsets", "lines")


class Search(Buffered):
    """text.search.

    A line belongs to the chunk in which it begins, so each line is searched once, however the file
    is cut.
    """

    quantum = BUFFER

    def wipe(self) -> None:
        """Forget texts and patterns, and shrink the buffer that a long line extended."""
        super().wipe()
        del self._buffer[BUFFER:]
        forget_patterns()

    def prepare(self, context: Context) -> Json:
        """Refuse an unusable pattern before the first byte is read."""
        shown = str(context.arg["show"])
        if shown not in _SHOWN:
            raise OSError(
                errno.EINVAL, f'argument "show": got "{shown[:64]}", wanted count, offsets or lines'
            )
        try:
            matcher_of(context.arg)
        except CannotMatch as error:
            raise OSError(errno.EINVAL, f'argument "pattern": {error}') from error
        return {}

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Search the lines that begin in a span of the source, or a run of items."""
        if not context.items:
            scan = _Scan(self._buffer, context, "data", context.sources["data"], control, None)
            return scan.run(start, end), scan.tally.part()
        used = 0

        def one(position: int) -> Json | None:
            nonlocal used
            if used > PART_BYTES_MAX - RETURNED_BYTES:
                return None
            source = context.items[position]
            before, size = source.stamp(), source.size()
            scan = _Scan(self._buffer, context, f"items[{position}]", source, control, position)
            if scan.run(0, size) < size:
                return None
            found = _result(scan.tally.part(), context)
            result = steady.with_change(context, position, source, before, found)
            used += len(json.dumps(result)) + 1
            return result

        return run_each((start, end), control, one)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sum of the counts, and the first matches; without parts, no matches."""
        tally = _Tally(context, RETURNED_BYTES)
        for part in parts:
            tally.join(part)
        return _result(tally.part(), context)


def _result(part: Json, context: Context) -> Json:
    """The result for a part: "truncated" says whether there are more matches than returned."""
    shown = str(context.arg["show"])
    if shown == "count":
        return {"count": part["count"]}
    entries = part.get(shown, [])
    return {"count": part["count"], shown: entries, "truncated": len(entries) < part["count"]}


class _Tally:
    """Counts the lines that match, and keeps the first of them, up to `limit` and `most` bytes.

    After the first line that is left out, no line is kept, so the result does not depend on the cut.
    """

    def __init__(self, context: Context, most: int) -> None:
        self._shown = str(context.arg["show"])
        self._limit = 0 if self._shown == "count" else int(context.arg["limit"])
        self._left_bytes = most
        self._kept: list[int | Json] = []
        self.count = 0

    def add(self, offset: int, line: bytes, length: int) -> None:
        """Add one line; `line` is its beginning, `length` its whole length."""
        if self.wants_more:
            self._keep(offset if self._shown == "offsets" else _entry(offset, line, length))
        self.count += 1

    @property
    def wants_more(self) -> bool:
        """Whether all lines so far were kept, and another may be."""
        return len(self._kept) == self.count < self._limit

    def _keep(self, entry: int | Json) -> None:
        size = len(json.dumps(entry)) + 2
        if size <= self._left_bytes:
            self._left_bytes -= size
            self._kept.append(entry)

    def join(self, part: Json) -> None:
        """Add the part that follows."""
        for i, entry in enumerate(() if self._shown == "count" else part[self._shown]):
            if len(self._kept) < self.count + i or self.count + i >= self._limit:
                break
            self._keep(entry)
        self.count += part["count"]

    def part(self) -> Json:
        """The fields of a part of a result."""
        return {"count": self.count, **({} if self._shown == "count" else {self._shown: self._kept})}


def _entry(offset: int, line: bytes, length: int) -> Json:
    text = line[:TEXT_BYTES].decode("utf-8", "backslashreplace")
    return {"offset": offset, "text": text, **({"cut": True} if length > TEXT_BYTES else {})}


class _Scan:
    """Searches the lines of one source that begin in one span.

    Args:
        item: position to report to control instead of the byte reached.
    """

    def __init__(
        self,
        buffer: bytearray,
        context: Context,
        role: str,
        source: OpenSource,
        control: Control,
        item: int | None,
    ) -> None:
        self.tally = _Tally(context, RETURNED_BYTES if item is None else RETURNED_BYTES // 2)
        self._matcher: Matcher = matcher_of(context.arg)
        self._buffer = buffer
        self._role = role
        self._source = source
        self._control = control
        self._item = item
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
        reached = pass_over(self._control, at, after, Search.quantum)
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
        if not self.tally.wants_more:
            self.tally.count += self._matcher.count(self._buffer, stop)
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
            after = position + stop + 1
            if newline >= 0 or position + count >= size or (found and after > end):
                if found:
                    self.tally.add(at, begin, TEXT_BYTES + 1)
                return after if newline >= 0 else max(end, size)
            position += count - self._matcher.overlap
        return at

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
            f'source "{self._role}": the line at {at} is too long for a regular expression '
            f"(limit {LINE_BYTES_MAX} bytes); search for a literal instead",
        )
