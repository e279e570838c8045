"""Searches files for lines that match, in chunks cut at the ends of lines."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence

from ktaskd.functions import steady
from ktaskd.functions.body import Context, Control, Json
from ktaskd.functions.quanta import BUFFER, Buffered
from ktaskd.functions.reading import run_each
from ktaskd.functions.text.matching import CannotMatch, Matcher, forget_patterns, matcher_of
from ktaskd.functions.text.scanning import TEXT_BYTES, Scan
from ktaskd.model.limits import PART_BYTES_MAX

RETURNED_BYTES = 16 << 10
"""Limit of the matches that a job returns, as JSON. Half as much for an item, so that two fit a part."""

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
            tally = _Tally(context, RETURNED_BYTES)
            scan = Scan(self._buffer, context, control, tally)
            return scan.run(start, end), tally.part()
        used = 0

        def one(position: int) -> Json | None:
            nonlocal used
            if used > PART_BYTES_MAX - RETURNED_BYTES:
                return None
            source = context.items[position]
            before, size = source.stamp(), source.size()
            tally = _Tally(context, RETURNED_BYTES // 2)
            scan = Scan(self._buffer, context, control, tally, position)
            if scan.run(0, size) < size:
                return None
            found = _result(tally.part(), context)
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

    whole = False

    def take(self, matcher: Matcher, text: bytearray, stop: int, at: int) -> None:
        """As Sink. Lines that are not kept are counted faster."""
        if not self._wants_more:
            self.count += matcher.count(text, stop)
            return
        for first, after in matcher.lines(text, stop):
            self._add(at + first, bytes(text[first : min(after, first + TEXT_BYTES)]), after - first)

    def take_long(self, at: int, begin: bytes) -> None:
        """As Sink."""
        self._add(at, begin, TEXT_BYTES + 1)

    def _add(self, offset: int, line: bytes, length: int) -> None:
        """Add one line; `line` is its beginning, `length` its whole length."""
        if self._wants_more:
            self._keep(offset if self._shown == "offsets" else _entry(offset, line, length))
        self.count += 1

    @property
    def _wants_more(self) -> bool:
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
