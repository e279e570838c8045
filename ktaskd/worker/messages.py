"""The messages of workers, read once into dataclasses: no JSON of their frames goes any further. Pure.

A worker that sends anything else cannot be trusted any more, and neither can its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.worker import Applied
from ktaskd.worker import frames
from ktaskd.worker.codec import applied_from_json
from ktaskd.worker.frames import Done, FrameInvalid, LeaseDone, Note

Json = dict[str, Any]
Pairs = Sequence[Sequence[int]]
"""Spans as [start, end) pairs, in any order."""

_MESSAGE_MAX = 4096
_EXCEPTION_MAX = 16384
_CPU_NS_MAX = 2**63 - 1
_ERRNO_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has set itself up."""

    applied: Applied


@dataclass(frozen=True, slots=True)
class Prior:
    """The content of [start, end), in holes and data, before its chunk changes it."""

    seq: int
    start: int
    end: int
    holes: Pairs


@dataclass(frozen=True, slots=True)
class Value:
    """The value that a function returned for a step, which only the function can read.

    Args:
        kept: what an undo could not put back.
        by_prepare, by_finish: what these steps change, as prepare has found.
    """

    content: Mapping[str, Any]
    kept: Pairs = ()
    by_prepare: Pairs = ()
    by_finish: Pairs = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """The findings of a prepare, before it changes anything."""

    seq: int
    value: Value


@dataclass(frozen=True, slots=True)
class Reply:
    """A step is done."""

    seq: int
    cpu_ns: int
    value: Value


@dataclass(frozen=True, slots=True)
class Failed:
    """A chunk or a step raised an error, and the worker has cleaned up.

    Args:
        reason: one of `functions.failures.REASONS`; else the function raised an error of its own.
        dirty: what the worker could not put back.
    """

    seq: int
    cpu_ns: int = 0
    reason: str = ""
    message: str = ""
    errno: int = 0
    exception: str = ""
    dirty: Pairs = ()


@dataclass(frozen=True, slots=True)
class Rests:
    """The worker sleeps in its chunk until something comes for it."""

    seq: int


@dataclass(frozen=True, slots=True)
class Wakes:
    """The worker goes on with its chunk."""

    seq: int


Report = LeaseDone | Prior | Planned | Reply | Failed | Rests | Wakes
"""All reports of a worker on a job, except that a chunk or lease is done."""

Message = Ready | Done | Report


def parse(frame: bytes) -> Message:
    """Read a frame from a worker; raises FrameInvalid."""
    if not frame:
        raise FrameInvalid("empty frame")
    if frame[0] in (frames.DONE, frames.PART, frames.WHOLE):
        return frames.unpack_done(frame)
    note = frames.unpack_note(frame)
    read = _READERS.get(note.kind)
    if read is None:
        raise FrameInvalid(f"frame kind {note.kind}: workers do not send it")
    try:
        frames.check_nesting(frame, note.body)
        return read(note)
    except (KeyError, TypeError, ValueError) as error:
        raise FrameInvalid(f"frame kind {note.kind}: {type(error).__name__}: {error}") from error


def _ready(note: Note) -> Ready:
    return Ready(applied_from_json(note.body))


def _prior(note: Note) -> Prior:
    start, end = _position(note.body["start"]), _position(note.body["end"])
    if start > end:
        raise ValueError(f"span [{start}, {end})")
    return Prior(note.number, start, end, _pairs(note.body["holes"]))


def _planned(note: Note) -> Planned:
    return Planned(note.number, _value(note.body))


def _reply(note: Note) -> Reply:
    return Reply(note.number, _number(note.body.get("cpu_ns", 0), _CPU_NS_MAX), _value(note.body))


def _failed(note: Note) -> Failed:
    body = note.body
    return Failed(
        note.number,
        _number(body.get("cpu_ns", 0), _CPU_NS_MAX),
        _text(body.get("reason", "")),
        _text(body.get("message", ""))[:_MESSAGE_MAX],
        _number(body.get("errno") or 0, _ERRNO_MAX),
        _text(body.get("exception", ""))[:_EXCEPTION_MAX],
        _pairs(body.get("dirty", [])),
    )


_READERS: Mapping[int, Callable[[Note], Message]] = {
    frames.READY: _ready,
    frames.PRIOR: _prior,
    frames.PLANNED: _planned,
    frames.REPLY: _reply,
    frames.FAILED: _failed,
    frames.RESTS: lambda note: Rests(note.number),
    frames.WAKES: lambda note: Wakes(note.number),
}


def _value(body: Json) -> Value:
    content = body.get("value", {})
    if not isinstance(content, dict):
        raise TypeError(f"value is {type(content).__name__}, not an object")
    return value_of(content)


def value_of(content: Json) -> Value:
    """A function's value, with the spans that it names; raises TypeError where they are none."""
    kept, by_prepare, by_finish = (_pairs(content.get(at, [])) for at in ("kept", "by_prepare", "by_finish"))
    return Value(content, kept, by_prepare, by_finish)


def _number(value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} in place of a number")
    if not 0 <= value <= most:
        raise ValueError(f"number out of [0, {most}]")
    return value


def _text(value: object) -> str:
    """A text that can be sent on: errors with names of files may have lone surrogates."""
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value.encode(errors="backslashreplace").decode()


def _position(value: object) -> int:
    return _number(value, POSITION_MAX)


def _pairs(value: object) -> list[list[int]]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise TypeError("no list of spans")
    for start, end in value:
        _position(start)
        _position(end)
    return value
