"""Lines that match, in files cut at the ends of lines."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence

from ktaskd.functions import steady
from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.quanta import BUFFER, QUANTUM_BYTES_MAX, Buffered, Naming, require_size
from ktaskd.functions.reading import run_each
from ktaskd.functions.text.matching import CannotMatch, Matcher, forget_patterns, matcher_of
from ktaskd.model.limits import PART_BYTES_MAX

TOLD_BYTES = 16 << 10
"""Matches told of one job, as JSON; of an item half as much, so that two fit in a part."""

TEXT_BYTES = 1000
"""Of a line that is told; the rest of it is left out."""

LINE_BYTES_MAX = QUANTUM_BYTES_MAX
"""Of a line that a regular expression looks at. A literal looks at any."""

_NEWLINE = b"\n"
_SHOWN = ("count", "offsets", "lines")


class Search(Buffered):
    """text.search.

    A line belongs to the chunk in which it begins, so that whatever the cut, each is looked
    at once.
    """

    def wipe(self) -> None:
        """Forget texts and patterns, and the length that a long line gave the buffer."""
        super().wipe()
        del self._buffer[BUFFER:]
        forget_patterns()

    def prepare(self, context: Context) -> Json:
        """Refuse what cannot be looked for before the first byte is read."""
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
        """Look at the lines that begin in a span of the source, or at a run of items."""
        if not context.items:
            scan = _Scan(self._buffer, context, "data", context.sources["data"], control, None)
            return scan.run(start, end), scan.tally.part()
        used = 0

        def one(position: int) -> Json | None:
            nonlocal used
            if used > PART_BYTES_MAX - TOLD_BYTES:
                return None
            source = context.items[position]
            before, size = source.stamp(), source.size()
            scan = _Scan(self._buffer, context, f"items[{position}]", source, control, position)
            if scan.run(0, size) < size:
                return None
            result = steady.with_change(context, position, source, before, _told(scan.tally.part(), context))
            used += len(json.dumps(result)) + 1
            return result

        return run_each((start, end), control, one)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """The sum of the counts, and the first of the matches; of no parts, nothing found."""
        tally = _Tally(context, TOLD_BYTES)
        for part in parts:
            tally.join(part)
        return _told(tally.part(), context)


def _told(part: Json, context: Context) -> Json:
    """What is told of it: whether there are more matches than were told, where any are."""
    shown = str(context.arg["show"])
    if shown == "count":
        return {"count": part["count"]}
    told = part.get(shown, [])
    return {"count": part["count"], shown: told, "truncated": len(told) < part["count"]}


class _Tally:
    """How many lines match, and the first of them: as many as `limit` and `most` allow.

    Once one is left out so are all behind it: what is told does not depend on the cut.
    """

    def __init__(self, context: Context, most: int) -> None:
        self._shown = str(context.arg["show"])
        self._limit = 0 if self._shown == "count" else int(context.arg["limit"])
        self._room = most
        self._told: list[int | Json] = []
        self.count = 0

    def add(self, offset: int, line: bytes, length: int) -> None:
        """One line more; `line` is its beginning, `length` that of all of it."""
        if self.wants_more:
            self._tell(offset if self._shown == "offsets" else _entry(offset, line, length))
        self.count += 1

    @property
    def wants_more(self) -> bool:
        """Whether all so far were told, and another may be."""
        return len(self._told) == self.count < self._limit

    def _tell(self, entry: int | Json) -> None:
        size = len(json.dumps(entry)) + 2
        if size <= self._room:
            self._room -= size
            self._told.append(entry)

    def join(self, part: Json) -> None:
        """What follows."""
        for i, entry in enumerate(() if self._shown == "count" else part[self._shown]):
            if len(self._told) < self.count + i or self.count + i >= self._limit:
                break
            self._tell(entry)
        self.count += part["count"]

    def part(self) -> Json:
        """As a part of a result."""
        return {"count": self.count, **({} if self._shown == "count" else {self._shown: self._told})}


def _entry(offset: int, line: bytes, length: int) -> Json:
    text = line[:TEXT_BYTES].decode("utf-8", "backslashreplace")
    return {"offset": offset, "text": text, **({"cut": True} if length > TEXT_BYTES else {})}


class _Scan:
    """Looks at the lines of one source that begin in one span.

    Args:
        item: what to tell control instead of the byte that was reached.
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
        self.tally = _Tally(context, TOLD_BYTES if item is None else TOLD_BYTES // 2)
        self._matcher: Matcher = matcher_of(context.arg)
        self._buffer = buffer
        self._role = role
        self._source = source
        self._control = control
        self._item = item
        self._recalled = False

    def run(self, start: int, end: int) -> int:
        """Look at [start, end), or as far as control says; the position reached."""
        require_size(self._source, self._role, end)
        at = self._line_begin(start, end)
        while at < end and not self._stops(at):
            size = self._source.size()
            whole = self._fill(at, BUFFER)
            cut = whole if at + whole >= size else self._buffer.rfind(_NEWLINE, 0, whole) + 1
            after = at + self._look(at, end, cut) if cut else self._long_line(at, end, size)
            if self._recalled:
                return at
            at = after
        return min(at, end)

    def _stops(self, at: int) -> bool:
        self._recalled = self._recalled or self._control.quantum(at if self._item is None else self._item)
        return self._recalled

    def _fill(self, at: int, length: int) -> int:
        """Read up to `length` bytes from `at` on into the buffer; how many there were."""
        if len(self._buffer) < length:
            self._buffer.extend(bytes(length - len(self._buffer)))
        done = 0
        with memoryview(self._buffer)[:length] as view, Naming(self._role, "read", at, at + length):
            while done < length:
                count = os.preadv(self._source.fd, [view[done:]], at + done)
                if count == 0:
                    break
                done += count
        # It was there when it was asked for its length.
        require_size(self._source, self._role, at + max(done, 1))
        return done

    def _line_begin(self, start: int, end: int) -> int:
        """Where the first line begins in [start, end); `end` where none does."""
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

    def _look(self, at: int, end: int, cut: int) -> int:
        """Look at whole lines, the first `cut` bytes of the buffer; how many bytes were its."""
        if at + cut > end:
            # A line that begins beyond the end is another chunk's.
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
        """Look at a line that is longer than the buffer; where the next one begins, or `end`."""
        if self._matcher.overlap is None:
            return at + self._look(at, end, self._whole_line(at, size))
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
        """Read a line into a buffer that becomes longer; its length, the newline included."""
        length = BUFFER
        while length < LINE_BYTES_MAX:
            length *= 2
            count = self._fill(at, length)
            newline = self._buffer.find(_NEWLINE, 0, count)
            if newline >= 0 or at + count >= size:
                return newline + 1 or count
        raise OSError(
            errno.EMSGSIZE,
            f'source "{self._role}": the line at {at} is longer than {LINE_BYTES_MAX} bytes, wanted shorter '
            "ones for a regular expression",
        )
