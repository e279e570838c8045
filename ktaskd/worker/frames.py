"""Messages between the daemon and one worker, as bytes. Pure. `messages` reads what workers send.

One message is one datagram of a SOCK_SEQPACKET pair, at most FRAME_BYTES_MAX.
Chunks are packed by hand since there are many; everything else is JSON, and
rare. Numbers are little endian.

Daemon to worker:
    SOURCE  sid, facts                one fd rides along
    JOB     jno, setup                function, arguments, role -> sid, items
    CHUNK   seq, jno, start, end, nid node where new pages go, -1 = the worker's own
    CALL    seq, jno, op, payload     prepare, undo, combine, finish, restore
    FORGET  jno or sid                drop what was sent before
    WIPE                              forget all, and erase it: another user is next
    NUDGE                             means nothing: wakes a worker that rests and is recalled
    BATCH   frames                    several of these (but SOURCE) in one datagram
Worker to daemon:
    READY   applied                   once, after the worker set itself up
    DONE    seq, reached, cpu, part   reached < end: the rest is given back
    PRIOR   seq, state                what a span held, before it is written
    PLANNED seq, value                what a prepare found, before it changes anything
    REPLY   seq, cpu, value           answer to a CALL
    FAILED  seq, cpu, failure         answer to a CHUNK or a CALL
    RESTS   seq                       it sleeps in this chunk until something comes for it
    WAKES   seq                       and works on
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ktaskd.model.limits import NUMA_NO_NODE

SOURCE, JOB, CHUNK, CALL, FORGET_JOB, FORGET_SOURCE, BATCH, WIPE, NUDGE = range(1, 10)
READY, DONE, PRIOR, REPLY, FAILED, PLANNED, RESTS, WAKES = range(65, 73)

_HEAD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<BQQQQi")
_DONE = struct.Struct("<BQQQ")
_LENGTH = struct.Struct("<I")

# The words of a worker's page in the board that it shares with the daemon,
# 8 bytes each, aligned, so that a word is never seen half written.
SLOT_BYTES = 4096
SLOT_RECALL = 0
"""Written by the daemon: chunks with a seq up to this one are to be given back."""
SLOT_SEQ = 1
"""Written by the worker: the chunk that it has begun. Answers "which chunk is
lost" even when the worker died before it could send anything."""
SLOT_POSITION = 2
"""Written by the worker: how far it is in that chunk."""
SLOT_BEATS = 3
"""Written by the worker: quanta worked since it started."""
SLOT_UNDOING = 4
"""Written by the worker: the last chunk that failed and that it began to undo."""


class Op(StrEnum):
    """The steps of a job that a CALL frame asks for: each is done once, by one worker."""

    PREPARE = "prepare"
    COMBINE = "combine"
    FINISH = "finish"
    UNDO = "undo"
    RESTORE = "restore"


class FrameInvalid(Exception):
    """The other side sent something that is no frame."""


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk was processed up to `reached`; `part` is its JSON result or b""."""

    seq: int
    reached: int
    cpu_ns: int
    part: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Any other message: its kind, the number it is about, and its JSON."""

    kind: int
    number: int
    body: dict[str, Any]


def pack_chunk(seq: int, jno: int, start: int, end: int, nid: int = NUMA_NO_NODE) -> bytes:
    """A CHUNK frame."""
    return _CHUNK.pack(CHUNK, seq, jno, start, end, nid)


def unpack_chunk(frame: bytes) -> tuple[int, int, int, int, int]:
    """seq, jno, start, end, nid of a CHUNK frame."""
    _, seq, jno, start, end, nid = _CHUNK.unpack(frame)
    return seq, jno, start, end, nid


def pack_done(seq: int, reached: int, cpu_ns: int, part: bytes) -> bytes:
    """A DONE frame."""
    return _DONE.pack(DONE, seq, reached, cpu_ns) + part


def pack_note(kind: int, number: int, body: dict[str, Any] | None = None) -> bytes:
    """Any frame but CHUNK and DONE."""
    return _HEAD.pack(kind, number) + (json.dumps(body).encode() if body else b"")


def unpack_note(frame: bytes) -> Note:
    """Any frame but CHUNK and DONE; raises FrameInvalid."""
    try:
        kind, number = _HEAD.unpack_from(frame)
        body = json.loads(frame[_HEAD.size :]) if len(frame) > _HEAD.size else {}
    except (struct.error, ValueError, RecursionError) as error:
        raise FrameInvalid(f"frame of {len(frame)} bytes: {error}") from error
    if not isinstance(body, dict):
        raise FrameInvalid(f"frame kind {kind}: body is {type(body).__name__}, wanted an object")
    return Note(kind, number, body)


def pack_batch(batch: Sequence[bytes]) -> bytes:
    """A BATCH frame: each send wakes the worker, so what can wait goes along."""
    return bytes([BATCH]) + b"".join(_LENGTH.pack(len(frame)) + frame for frame in batch)


def unpack_batch(frame: bytes) -> list[bytes]:
    """The frames of a BATCH frame; raises FrameInvalid."""
    found, at = [], 1
    while at < len(frame):
        if len(frame) - at < _LENGTH.size:
            raise FrameInvalid(f"BATCH frame of {len(frame)} bytes: cut off at {at}")
        (length,) = _LENGTH.unpack_from(frame, at)
        at += _LENGTH.size
        if not 0 < length <= len(frame) - at:
            raise FrameInvalid(f"BATCH frame of {len(frame)} bytes: a frame of {length} bytes at {at}")
        found.append(frame[at : at + length])
        at += length
    return found


def unpack_done(frame: bytes) -> Done:
    """A DONE frame; raises FrameInvalid."""
    try:
        _, seq, reached, cpu_ns = _DONE.unpack_from(frame)
    except struct.error as error:
        raise FrameInvalid(f"DONE frame of {len(frame)} bytes: {error}") from error
    return Done(seq, reached, cpu_ns, frame[_DONE.size :])


def unpack_part(part: bytes) -> dict[str, Any]:
    """The JSON result of a chunk; raises FrameInvalid."""
    try:
        value = json.loads(part)
    except (ValueError, RecursionError) as error:
        raise FrameInvalid(f"part of {len(part)} bytes: {error}") from error
    if not isinstance(value, dict):
        raise FrameInvalid(f"part: is {type(value).__name__}, wanted an object")
    return value
