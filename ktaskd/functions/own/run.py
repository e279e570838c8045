"""The body that runs the caller's own function on each chunk.

The code arrives pickled in a source. It may do whatever the daemon's user may, since the caller is
that user.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import itertools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ktask.v1 import code

from ktaskd.functions.body import UNBOUNDED, Body, Context, Control, Json, OpenSource
from ktaskd.functions.own.connection import Connection, flush
from ktaskd.functions.transfer import read_full, require_size, write_full
from ktaskd.model.limits import PART_BYTES_MAX
from ktaskd.model.source import SourceKind

GATHERED_BYTES_MAX = PART_BYTES_MAX - 100
"""Limit of the gathered return values if nothing combines them. The other 100 bytes are for the rest of
the part."""


class Data:
    """The data that the caller's own function works on; its positions are bytes."""

    def __init__(self, source: OpenSource, *, write: bool) -> None:
        """Keep the source, which the worker still owns."""
        self._source = source
        self._write = write
        self.touched = False
        """Whether the function has received something through which it can change the data."""

    def __len__(self) -> int:
        """The length in bytes now."""
        return self._source.size()

    def fileno(self) -> int:
        """The descriptor. Do not use its offset, which others may use."""
        self.touched = self.touched or self._write
        return self._source.fd

    def view(self, start: int, end: int) -> memoryview:
        """Bytes [start, end) without a copy, writable if the function writes.

        For a file on a disk it is a read-only copy; use `write` to change the file.

        Raises:
            OSError: the data ends before, or there is no memory for it.
        """
        if self._is_mapped:
            if self._write:
                self._source.populate(start, end)
            view = self._source.view(start, end, write=self._write)
            self.touched = self.touched or self._write
            return view if self._write else view.toreadonly()
        return memoryview(self.read(start, end))

    def read(self, start: int, end: int) -> bytes:
        """A copy of the bytes [start, end); raises OSError if the data ends before."""
        if self._is_mapped:
            with self._source.view(start, end, write=False) as view:
                return bytes(view)
        buffer = bytearray(end - start)
        with memoryview(buffer) as view:
            read_full(self._source, "data", start, view)
        return bytes(buffer)

    def write(self, start: int, data: Any) -> None:
        """Write bytes at a position; raises OSError if that is not possible."""
        if not self._write:
            words = 'source "data": this function may only read it; submit with writes=True'
            raise OSError(errno.EACCES, words)
        self.touched = True
        with memoryview(data) as given, given.cast("B") as flat:
            if self._is_mapped:
                with self.view(start, start + len(flat)) as view:
                    view[:] = flat
            else:
                write_full(self._source, "data", start, flat)

    @property
    def _is_mapped(self) -> bool:
        """Whether to use a mapping.

        Not for a source that can become shorter, since SIGBUS would kill the worker. Huge pages
        can only be mapped.
        """
        facts = self._source.facts
        return facts.mappable or facts.kind is SourceKind.HUGE


@dataclass(frozen=True, slots=True)
class Code:
    """The unpickled code of a job."""

    function: Callable[[Data | None, int, int, Any], Any]
    undo: Callable[[Data | None, int, int, Any], Any] | None
    combine: Callable[[list[Any]], Any] | None
    arg: Any


class Run(Body):
    """python.run. Keeps the code of its job; a worker has only one such job, and ends with it."""

    quantum = UNBOUNDED

    def __init__(self) -> None:
        """Begin without any code."""
        self._of: Context | None = None
        self._code: Code | None = None
        self._failed: tuple[int, int] | None = None
        self._connection: Connection | None = None

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Call the function once.

        A chunk in which the function raises is dirty if it may have written something: only the
        caller knows what it has done, and an undo is made for completed chunks.
        """
        if control.quantum(start):
            return start, None
        loaded, data = self._load(context), _data(context)
        if data is not None:
            require_size(context.sources["data"], "data", end)
        try:
            value = _guarded(loaded.function, data, start, end, loaded.arg)
        except Exception:
            if data is None or data.touched:
                self._failed = start, end
                control.quantum(end)
            raise
        if loaded.combine is not None:
            return end, {"value": _packed(value)}
        return end, _of_one_call(value)

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Call the caller's undo once."""
        failed, self._failed = self._failed, None
        if failed == (start, end):
            return [failed] if context.arg["writes"] else []
        loaded = self._load(context)
        assert loaded.undo is not None
        _guarded(loaded.undo, _data(context), start, end, loaded.arg)
        return []

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """Call the caller's combine with the results in the order of their positions.

        Without a combine, the results are gathered unchanged.
        """
        loaded = self._load(context)
        if loaded.combine is None:
            return _gathered(parts)
        values = [pickle.loads(base64.b64decode(part["value"])) for part in parts]
        return {"value": _packed(_guarded(loaded.combine, values))}

    def wipe(self) -> None:
        """Forget the code, and disconnect from its program."""
        self._of = self._code = self._failed = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, name: str) -> None:
        """Redirect output to the program. A program that is gone is ignored: its work must be undone."""
        if name and self._connection is None:
            with contextlib.suppress(OSError, EOFError):
                self._connection = Connection(name)
                self._connection.settle()

    def _load(self, context: Context) -> Code:
        if self._code is None or self._of is not context:
            self._connect(str(context.arg["line"]))
            source = context.sources["code"]
            data = bytearray(source.size())
            with memoryview(data) as view:
                read_full(source, "code", 0, view)
            self._code, self._of = Code(*code.unpack(bytes(data))), context
        return self._code


def _data(context: Context) -> Data | None:
    source = context.sources.get("data")
    return None if source is None else Data(source, write=bool(context.arg["writes"]))


def _guarded(function: Callable[..., Any], *given: Any) -> Any:
    """Call the function; an exception that would end the worker becomes an error of the function."""
    try:
        return function(*given)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    finally:
        flush()


def _of_one_call(value: Any) -> Json:
    """The part of one call; a value that cannot be pickled does not fail the job."""
    if value is None:
        return {"calls": 1}
    try:
        return _gathered([{"calls": 1, "values": [_packed(value)]}])
    except Exception:  # whatever pickling it raises, as for a lock
        return {"calls": 1, "values": []}


def _gathered(parts: Sequence[Json]) -> Json:
    """The number of calls, and the first return values, as many as a part can hold.

    "values" is left out if all calls returned None, as functions do that only write.
    """
    calls = sum(part["calls"] for part in parts)
    if not any("values" in part for part in parts):
        return {"calls": calls}
    values: list[str] = []
    room = GATHERED_BYTES_MAX
    for part in parts:
        given = part["values"] if "values" in part else itertools.repeat("", part["calls"])
        for value in given:
            room -= len(value) + len('"", ')
            if room < 0:
                return {"calls": calls, "values": values}
            values.append(value)
        if "values" in part and len(part["values"]) < part["calls"]:
            break
    return {"calls": calls, "values": values}


def _packed(value: Any) -> str:
    return base64.b64encode(code.dumps(value)).decode()
