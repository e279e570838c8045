"""Initialises memory with records."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ktaskd.functions.body import Context, Control, Json
from ktaskd.functions.memory.node_pages import CountsPages, count_pages
from ktaskd.functions.quanta import BUFFER, QUANTUM, cut, make_buffer, wipe
from ktaskd.functions.restoring import Target
from ktaskd.functions.transfer import require_size

_RECORD_MAX = 4096
_INDEX_TYPES = {4: "<u4", 8: "<u8"}


class _Record(NamedTuple):
    """One record, and the place of its number in it."""

    content: bytes
    index_at: int
    index_bytes: int
    index_first: int


class Pattern(CountsPages):
    """mem.pattern."""

    quantum = QUANTUM

    def __init__(self) -> None:
        """Allocate a buffer for records and one for reading."""
        self._block = make_buffer(BUFFER)
        self._buffer = make_buffer(BUFFER)

    def wipe(self) -> None:
        """Erase the buffers."""
        wipe(self._block)
        wipe(self._buffer)

    def prepare(self, context: Context) -> Json:
        """Check that the arguments fit together before anything is written."""
        record = _record_of(context)
        _require_index(record, context.span[1])
        return {}

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Write the records."""
        source = context.sources["data"]
        require_size(source, "data", end)
        target = Target(source, "data", self._buffer)
        target.look_for_holes(start, end)
        press = _Press(_record_of(context), self._block)
        reached = self._print(target, press, context.span[1], (start, end), control)
        return reached, count_pages(context, "data", start, reached) if target.mapped else None

    def _print(
        self, target: Target, press: _Press, job_end: int, span: tuple[int, int], control: Control
    ) -> int:
        """Write a span until control stops it."""
        start, end = span
        for first, after in cut(start, end, QUANTUM):
            if control.quantum(first):
                return first
            require_size(target.source, "data", job_end)
            control.prior(first, after, target.holes(first, after))
            target.touched = first
            try:
                press.print(target, first, after)
            except BaseException:
                # Report exactly the bytes that may have changed, so that no others are undone.
                control.quantum(target.touched)
                raise
        control.quantum(end)
        require_size(target.source, "data", job_end)
        return end

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Turn the former holes into holes again; returns all other spans."""
        return Target(context.sources["data"], "data", self._buffer).restore(start, end, holes, control)


class _Press:
    """Prints records from one small block that stays in the cache."""

    def __init__(self, record: _Record, block: bytearray) -> None:
        self._block = block
        self._length = len(record.content)
        count = len(block) // self._length
        with memoryview(block) as view:
            view[: count * self._length] = record.content * count
        self._pieces = (count - 1) * self._length
        """Longest piece: available in the block from any offset inside its first record."""
        self._numbers = _Numbers(record, block, count) if record.index_at >= 0 else None

    def print(self, target: Target, start: int, end: int) -> None:
        """Write [start, end) of the pattern."""
        if not target.mapped:
            for first, after in self._cut(start, end):
                with self._piece(first, after) as piece:
                    target.write(first, piece)
            return
        with target.view(start, end) as view:
            for first, after in self._cut(start, end):
                with self._piece(first, after) as piece:
                    view[first - start : after - start] = piece

    def _cut(self, start: int, end: int) -> list[tuple[int, int]]:
        return [(first, min(end, first + self._pieces)) for first in range(start, end, self._pieces)]

    def _piece(self, start: int, end: int) -> memoryview:
        """[start, end) of the pattern; valid until the next call."""
        record, offset = divmod(start, self._length)
        if self._numbers is not None:
            self._numbers.begin_at(record, offset + end - start)
        return memoryview(self._block)[offset : offset + end - start]


class _Numbers:
    """The numbers of the records in a block."""

    def __init__(self, record: _Record, block: bytearray, count: int) -> None:
        kind = np.dtype(_INDEX_TYPES[record.index_bytes])
        names: dict[str, object] = {
            "names": ["number"],
            "formats": [kind],
            "offsets": [record.index_at],
            "itemsize": len(record.content),
        }
        layout = np.dtype(names)  # type: ignore[call-overload]
        self._fields = np.frombuffer(block, layout, count)["number"]
        self._steps = np.arange(count, dtype=kind)
        self._kind = kind.type
        self._length = len(record.content)
        self._first = record.index_first

    def begin_at(self, record: int, length: int) -> None:
        """Number the records in the first `length` bytes of the block, starting with `record`."""
        count = -(-length // self._length)
        np.add(self._steps[:count], self._kind(self._first + record), out=self._fields[:count])


def _record_of(context: Context) -> _Record:
    """The record that the arguments describe; raises ValueError with the mistake in them."""
    arg = context.arg
    text, at, size = str(arg["record"]), int(arg["index_at"]), int(arg["index_bytes"])
    try:
        content = bytes.fromhex(text)
    except ValueError as error:
        raise ValueError(f'argument "record": {error}, wanted hex digits, two for each byte') from error
    if not 1 <= len(content) <= _RECORD_MAX:
        raise ValueError(f'argument "record": got {len(content)} bytes, wanted 1 to {_RECORD_MAX}')
    if size not in _INDEX_TYPES:
        raise ValueError(f'argument "index_bytes": got {size}, wanted 4 or 8')
    if at + size > len(content) and at >= 0:
        raise ValueError(
            f'argument "index_at": got {at}, wanted {size} bytes of index inside a record of '
            f"{len(content)} bytes"
        )
    return _Record(content, at, size, int(arg["index_first"]))


def _require_index(record: _Record, end: int) -> None:
    """Raise OSError (EOVERFLOW) if the last index before `end` does not fit into its bytes."""
    last = record.index_first + max(end - 1, 0) // len(record.content)
    most = (1 << 8 * record.index_bytes) - 1
    if record.index_at >= 0 and last > most:
        raise OSError(
            errno.EOVERFLOW,
            f'argument "index_bytes": the last index is {last}, but {record.index_bytes} bytes hold at '
            f"most {most}",
        )
