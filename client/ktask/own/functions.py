"""Jobs whose function is the caller's own: pickled here, and run on each chunk by workers.

`Client.run(function, data=..., ...)` with something to call instead of a name has it called in
workers, for each chunk, with (data, start, end, arg). `data.view(start, end)` are the bytes of
the chunk, writable where the function writes; `data.read` and `data.write` copy them, as files
need it. Only a daemon of this user runs such a job, see `ktask.connect`.

    arg: anything that can be pickled.
    data: the one source; where none is given, `ranges` are all that it is told.
    combine: makes one of a list of what the function returned, in the order of positions; called
        again with what it has made, so it is associative. The job's result is then
        {"value": ...}. Without it that is a list of what the calls returned, in the order of
        positions, or the result is None where all of them returned None. What one call returns may
        have 16 KiB when pickled, and such a list too: what is more is counted in "left_out".
    undo: called as the function is, for chunks that were completed when the job fails.
    align: chunks are cut at multiples of this only, as of the size of an element.
    writes: whether it writes `data`; None = if that was opened for it, which a path is not.

A chunk in which the function raises, or in which its worker dies, is dirty if it writes: nobody
else knows what it has done there. The exception is the job's error, with its traceback. Workers
find modules and relative paths where this program does, run under its interpreter, and end with
the job.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ktask.core import Draft, check_int
from ktask.errors import KtaskError
from ktask.link.locate import VARIABLE, Place
from ktask.own.output import brought
from ktask.results import Job
from ktask.source import File, Memory, file, memory
from ktask.v1 import code

_ALIGN_MAX = 1 << 40


@dataclass(frozen=True, slots=True)
class Own:
    """A job as `Client.run` was given it, nothing checked yet, its function maybe one by name."""

    function: Callable[..., Any] | str
    undo: Callable[..., Any] | bool
    combine: Callable[..., Any] | None
    arg: Any
    ranges: Iterable[Sequence[int]] | None
    items: Iterable[Any] | None
    min_chunk: int
    max_threads: int
    align: int
    writes: bool | None
    sources: Mapping[str, Any]


@contextmanager
def drafted(own: Own, place: Place) -> Iterator[Draft]:
    """The job, with what is open for it only, for the daemon at a place.

    Raises:
        TypeError, ValueError: an argument cannot be right.
        OSError: a path cannot be opened.
        ImportError: cloudpickle is not installed.
    """
    undo, rest = own.undo is not False, (own.min_chunk, own.max_threads)
    if isinstance(own.function, str) or not callable(own.function):
        _check_named(own)
        yield Draft(own.function, own.arg, own.ranges, own.items, *rest, own.undo, own.sources)  # type: ignore[arg-type]
        return
    ranges = _check_own(own)
    with contextlib.ExitStack() as opened:
        sources, writes = dict(own.sources), own.writes
        if "data" in sources:
            writes = _writes(sources["data"]) if writes is None else writes
            if isinstance(sources["data"], str | bytes | os.PathLike):
                sources["data"] = opened.enter_context(file(sources["data"], "rw" if writes else "r"))
        sources["code"] = opened.enter_context(_pickled(own, place))
        arg = {
            "align": check_int("align", own.align, _ALIGN_MAX, 1),
            "writes": bool(writes),
            "undo": callable(own.undo),
            "line": _line(opened, place),
        }
        yield Draft("python.run", arg, ranges, None, *rest, undo, sources)


def with_result(job: Job) -> Job:
    """The job with what `combine` returned, unpickled, or with what the calls returned."""
    result = job.result or {}
    if "value" in result:
        return replace(job, result={"value": _unpacked(result["value"])})
    if "values" not in result:
        return replace(job, result=None)
    values = [_unpacked(value) for value in result["values"]]
    left_out = int(result["calls"]) - len(values)
    if not left_out:
        return replace(job, result={"value": values})
    words = f"job {job.id}: the results of {left_out} calls are left out, give `combine` to have all of them"
    warnings.warn(words, RuntimeWarning, stacklevel=4)
    return replace(job, result={"value": values, "left_out": left_out})


def _unpacked(packed: str) -> Any:
    return pickle.loads(base64.b64decode(packed)) if packed else None


def _line(opened: contextlib.ExitStack, place: Place) -> str:
    try:
        return opened.enter_context(brought(place))
    except KtaskError:
        return ""  # the daemon is not this user's, and says so itself when it is asked


def _pickled(own: Own, place: Place) -> Memory:
    """All that is called, in memory of its own."""
    undo = own.undo if callable(own.undo) else None
    here = {VARIABLE: os.path.dirname(place.socket)}
    pickled = code.pack((own.function, undo, own.combine, own.arg), here)
    made = memory(len(pickled), name="ktask-code")
    made[:] = pickled
    return made


def _check_named(own: Own) -> None:
    """Refuse what only a function of the caller's own has."""
    for name, given, default in (
        ("combine", own.combine, None),
        ("align", own.align, 1),
        ("writes", own.writes, None),
    ):
        if given != default:
            raise TypeError(f"{name}: got {given!r}, {own.function!r} has its own")
    if callable(own.undo):
        raise TypeError(f"undo: got {own.undo!r}, {own.function!r} has its own, wanted True or False")


def _check_own(own: Own) -> list[Sequence[int]] | None:
    """Refuse what one of the caller's own has not; the ranges."""
    for name, value in (("combine", own.combine), ("undo", own.undo)):
        if value is not None and not isinstance(value, bool) and not callable(value):
            raise TypeError(f"{name}: got {value!r}, wanted something to call")
    if own.items is not None:
        raise TypeError("items: a function of your own works on data; `Client.map` takes items")
    for role in own.sources:
        if role != "data":
            raise TypeError(f'source "{role}": a function of your own has one source, wanted "data"')
    ranges = None if own.ranges is None else list(own.ranges)
    if not own.sources and not ranges:
        raise TypeError("data: got none, and no ranges, wanted one of them")
    return ranges


def _writes(source: Any) -> bool:
    """Whether a source may be written, so that the function may write it."""
    if isinstance(source, Memory):
        return True
    if isinstance(source, File):
        return "w" in source.mode
    if isinstance(source, str | bytes | os.PathLike):
        return False
    fileno = getattr(source, "fileno", None)
    if fileno is None:
        return False
    return fcntl.fcntl(fileno(), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
