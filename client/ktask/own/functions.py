"""Jobs whose function is the caller's own: pickled here, and run on each chunk by workers.

`Client.run(function, data=..., ...)` takes a callable instead of a name. Workers call it for each
chunk with (data, start, end, arg). `data.view(start, end)` returns the bytes of the chunk, writable
if the function writes; `data.read` and `data.write` copy bytes, which files need. Only a daemon of
this user runs such a job, see `ktask.connect`.

    arg: anything that can be pickled.
    data: the one source. Without it the function gets only the positions of `ranges`.
    combine: makes one value of a list of what the function returned, in the order of positions. It is
        called again with values that it has made, so it must be associative. The job's result is
        then {"value": ...}. Without `combine` that value is a list of what the calls returned, in the
        order of positions, and the result is None if all of them returned None. The pickled value of
        one call may have 16 KiB, and so may the whole list; calls beyond that are counted in
        "left_out".
    undo: called like the function, for chunks that were completed when the job fails.
    align: chunks are cut only at multiples of this, such as the size of an element.
    writes: whether the function writes `data`; None = if `data` was opened for writing, which a path
        is not.

If the function writes, a chunk in which it raises, or in which its worker dies, is dirty: only the
function knows what it has done there. The exception is the job's error, with its traceback. Workers
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
from ktask.link.locate import VARIABLE, Endpoint
from ktask.own.output import received
from ktask.results import Job
from ktask.source import File, Memory, file, memory
from ktask.v1 import code

_ALIGN_MAX = 1 << 40


@dataclass(frozen=True, slots=True)
class Own:
    """The arguments of `Client.run`, not checked yet; the function may be a name or the caller's own."""

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
def drafted(own: Own, endpoint: Endpoint) -> Iterator[Draft]:
    """The draft of a job for the daemon at `endpoint`; what was opened for it is closed at the end.

    Raises:
        TypeError, ValueError: an argument is invalid.
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
        sources["code"] = opened.enter_context(_pickled(own, endpoint))
        arg = {
            "align": check_int("align", own.align, _ALIGN_MAX, 1),
            "writes": bool(writes),
            "undo": callable(own.undo),
            "line": _line(opened, endpoint),
        }
        yield Draft("python.run", arg, ranges, None, *rest, undo, sources)


def with_result(job: Job) -> Job:
    """The job with the unpickled value of `combine`, or with what the calls returned."""
    result = job.result or {}
    if "value" in result:
        return replace(job, result={"value": _unpacked(result["value"])})
    if "values" not in result:
        return replace(job, result=None)
    values = [_unpacked(value) for value in result["values"]]
    left_out = int(result["calls"]) - len(values)
    if not left_out:
        return replace(job, result={"value": values})
    words = (
        f"job {job.id}: the results of {left_out} calls are left out; give `combine` to get one of all calls"
    )
    warnings.warn(words, RuntimeWarning, stacklevel=4)
    return replace(job, result={"value": values, "left_out": left_out})


def _unpacked(packed: str) -> Any:
    return pickle.loads(base64.b64decode(packed)) if packed else None


def _line(opened: contextlib.ExitStack, endpoint: Endpoint) -> str:
    try:
        return opened.enter_context(received(endpoint))
    except KtaskError:
        return ""  # the daemon is not this user's, and refuses the job with the reason


def _pickled(own: Own, endpoint: Endpoint) -> Memory:
    """All callables and the argument, pickled, in memory of their own."""
    undo = own.undo if callable(own.undo) else None
    here = {VARIABLE: os.path.dirname(endpoint.socket)}
    pickled = code.pack((own.function, undo, own.combine, own.arg), here)
    made = memory(len(pickled), name="ktask-code")
    made[:] = pickled
    return made


def _check_named(own: Own) -> None:
    """Refuse arguments that only a function of the caller's own takes."""
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
    """Refuse arguments that a function of the caller's own does not take; return the ranges."""
    for name, value in (("combine", own.combine), ("undo", own.undo)):
        if value is not None and not isinstance(value, bool) and not callable(value):
            raise TypeError(f"{name}: got {value!r}, wanted a callable")
    if own.items is not None:
        raise TypeError("items: a function of your own works on data; `Client.map` takes items")
    for role in own.sources:
        if role != "data":
            raise TypeError(f'source "{role}": a function of your own has one source, wanted "data"')
    ranges = None if own.ranges is None else list(own.ranges)
    if not own.sources and not ranges:
        raise TypeError("data: missing, and so are ranges; give one of them")
    return ranges


def _writes(source: Any) -> bool:
    """Whether a source was opened for writing, so that the function may write it."""
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
