"""Frames between the daemon and one worker, as bytes. Pure. `messages` reads the frames of workers.

A frame is one datagram of a SOCK_SEQPACKET pair, of at most FRAME_BYTES_MAX. Chunks are frequent and
packed by hand; everything else is rare and JSON. Numbers are little endian.

Daemon to worker:
    SOURCE  sid, facts                one descriptor comes with it
    JOB     jno, setup                function, arguments, role -> sid
    ITEMS   jno, start, sids, new     items of the job's next chunk; a descriptor comes for each new one
    CHUNK   seq, jno, start, end, nid node for new pages; -1 = the worker's own
    LEASE   seq, jno, start, end, nid, slice, sole
                                      a chunk whose end the daemon may move while it is worked on; sole: it is
                                      the whole job, whose result has to be combined
    STEP    seq, jno, op, payload     prepare, undo, combine, finish or restore
    FORGET  jno, sid or sids          drop a job, a source, or several sources
    WIPE                              forget everything and erase it: the next job is another user's
    NUDGE                             no content: wakes a worker that rests and is recalled
    BATCH   frames                    several of these (except SOURCE and ITEMS) in one datagram
Worker to daemon:
    READY   applied                   once, after the worker has set itself up
    DONE    seq, reached, cpu, part   if reached < end, the remainder is given back
    WHOLE   seq, reached, cpu, result the same for the whole job: the result is combined already
    PART    seq, reached, cpu, part   a lease is done up to reached, and the worker continues with it
    PRIOR   seq, state                the former content of a span, sent before it is written
    PLANNED seq, value                the result of a prepare, sent before begin changes anything
    REPLY   seq, cpu, value           a STEP is done
    FAILED  seq, cpu, failure         a CHUNK or a STEP failed
    RESTS   seq                       the worker sleeps in this chunk until it is needed
    WAKES   seq                       the worker continues with this chunk
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ktaskd.model.limits import NUMA_NO_NODE

SOURCE, JOB, CHUNK, STEP, FORGET_JOB, FORGET_SOURCE, BATCH, WIPE, NUDGE, ITEMS, FORGET_SOURCES, LEASE = range(
    1, 13
)
READY, DONE, PRIOR, REPLY, FAILED, PLANNED, RESTS, WAKES, PART, WHOLE = range(65, 75)

_HEAD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<BQQQQi")
_LEASE = struct.Struct("<BQQQQiI?")
_DONE = struct.Struct("<BQQQ")
_LENGTH = struct.Struct("<I")

NESTED_MAX = 30
"""Levels of lists and objects in a frame from a worker. Clients read a message of 100 levels, and an object
in a result takes three of them. Source: protobuf's default recursion limit"""

# The words of a worker's page in the board, which it shares with the daemon. Each has 8 bytes
# and is aligned, so no reader sees a word half written.
SLOT_BYTES = 4096
SLOT_RECALL = 0
"""Written by the daemon: the worker must give back all chunks with a seq up to this one."""
SLOT_SEQ = 1
"""Written by the worker: the chunk that it has begun. Shows which chunk is lost even if the worker died
before it could send anything."""
SLOT_POSITION = 2
"""Written by the worker: the position reached in that chunk."""
SLOT_BEATS = 3
"""Written by the worker: number of quanta since it started."""
SLOT_UNDOING = 4
"""Written by the worker: the last failed chunk that it began to undo."""
SLOT_END = 5
"""Written by the daemon: the end of the lease. The worker reads it before each quantum."""
SLOT_CLAIM = 6
"""Written by the worker before it reads the end: the end of the quantum that it is about to begin."""
SLOT_ORDERED = 7
"""Written by the worker: 1 if `host.memory.barrier` orders its accesses, so that leases may be shortened."""


class Op(StrEnum):
    """The steps of a job that a STEP frame requests: each is done once, by one worker."""

    PREPARE = "prepare"
    COMBINE = "combine"
    FINISH = "finish"
    UNDO = "undo"
    RESTORE = "restore"


class FrameInvalid(Exception):
    """The other side sent bytes that are no valid frame."""


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk was processed up to `reached`; `part` is its result as JSON, or b"".

    Args:
        combined: the chunk was the whole job, and its result is combined already.
    """

    seq: int
    reached: int
    cpu_ns: int
    part: bytes
    combined: bool = False


@dataclass(frozen=True, slots=True)
class LeaseDone:
    """A lease was processed up to `reached`, and its worker continues.

    `part` is the result since the last such report, as JSON, or b"".
    """

    seq: int
    reached: int
    cpu_ns: int
    part: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Any other frame: its kind, its number (seq, jno or sid), and its JSON body."""

    kind: int
    number: int
    body: dict[str, Any]


def pack_chunk(seq: int, jno: int, start: int, end: int, nid: int = NUMA_NO_NODE) -> bytes:
    """Pack a CHUNK frame."""
    return _CHUNK.pack(CHUNK, seq, jno, start, end, nid)


def unpack_chunk(frame: bytes) -> tuple[int, int, int, int, int]:
    """The seq, jno, start, end and nid of a CHUNK frame."""
    _, seq, jno, start, end, nid = _CHUNK.unpack(frame)
    return seq, jno, start, end, nid


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its worker gets it: [start, end) of a job.

    Args:
        nid: node of new pages; -1 = the worker's own.
        slice_ms: time after which the rest is given back; 0 = no limit.
        sole: it is the whole job; its result has to be combined if it is not shortened.
    """

    seq: int
    jno: int
    start: int
    end: int
    nid: int = NUMA_NO_NODE
    slice_ms: int = 0
    sole: bool = False


def pack_lease(lease: Lease) -> bytes:
    """Pack a LEASE frame."""
    return _LEASE.pack(LEASE, *(getattr(lease, name) for name in Lease.__slots__))


def unpack_lease(frame: bytes) -> Lease:
    """Unpack a LEASE frame."""
    _, *fields = _LEASE.unpack(frame)
    return Lease(*fields)


def pack_done(seq: int, reached: int, cpu_ns: int, part: bytes) -> bytes:
    """Pack a DONE frame."""
    return _DONE.pack(DONE, seq, reached, cpu_ns) + part


def pack_part(seq: int, reached: int, cpu_ns: int, part: bytes) -> bytes:
    """Pack a PART frame."""
    return _DONE.pack(PART, seq, reached, cpu_ns) + part


def pack_whole(seq: int, reached: int, cpu_ns: int, result: bytes) -> bytes:
    """Pack a WHOLE frame."""
    return _DONE.pack(WHOLE, seq, reached, cpu_ns) + result


def pack_note(kind: int, number: int, body: dict[str, Any] | None = None) -> bytes:
    """Pack any frame except CHUNK, LEASE, DONE, PART and WHOLE."""
    return _HEAD.pack(kind, number) + (json.dumps(body).encode() if body else b"")


def unpack_note(frame: bytes) -> Note:
    """Unpack any frame except CHUNK, LEASE, DONE, PART and WHOLE; raises FrameInvalid."""
    try:
        kind, number = _HEAD.unpack_from(frame)
        body = json.loads(frame[_HEAD.size :]) if len(frame) > _HEAD.size else {}
    except (struct.error, ValueError, RecursionError) as error:
        raise FrameInvalid(f"frame of {len(frame)} bytes: {error}") from error
    if not isinstance(body, dict):
        raise FrameInvalid(f"frame kind {kind}: body is {type(body).__name__}, wanted an object")
    return Note(kind, number, body)


def pack_batch(batch: Sequence[bytes]) -> bytes:
    """Pack a BATCH frame: each send wakes the worker, so frames that can wait are sent together."""
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


def unpack_done(frame: bytes) -> Done | LeaseDone:
    """Unpack a DONE, PART or WHOLE frame; raises FrameInvalid."""
    try:
        kind, seq, reached, cpu_ns = _DONE.unpack_from(frame)
    except struct.error as error:
        raise FrameInvalid(f"DONE frame of {len(frame)} bytes: {error}") from error
    part = frame[_DONE.size :]
    if kind == PART:
        return LeaseDone(seq, reached, cpu_ns, part)
    return Done(seq, reached, cpu_ns, part, combined=kind == WHOLE)


def unpack_part(part: bytes) -> dict[str, Any]:
    """The JSON result of a chunk; raises FrameInvalid."""
    try:
        value = json.loads(part)
        check_nesting(part, value)
    except (ValueError, RecursionError) as error:
        raise FrameInvalid(f"part of {len(part)} bytes: {error}") from error
    if not isinstance(value, dict):
        raise FrameInvalid(f"part: is {type(value).__name__}, wanted an object")
    return value


def check_nesting(text: bytes, value: object) -> None:
    """Raise ValueError if a value, of which `text` is the JSON, has more levels than NESTED_MAX."""
    if text.count(b"[") + text.count(b"{") <= NESTED_MAX:
        return
    level = [value]
    for _ in range(NESTED_MAX):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if isinstance(inner, dict | list | tuple)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {NESTED_MAX} levels")
