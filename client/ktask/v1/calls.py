"""The protocol between a client and a worker for calls of the client's own functions. Pure.

The client listens on a socket of its own, in the part of the daemon's directory that only this
user can reach. The socket's path is the argument `line` of the function python.calls, and the
workers of that job connect to it. A worker takes one call at a time and asks for each, or takes a
token for one that it was sent ahead. So a worker that has to stop holds no call that it will not make.

Both ways:
    MEMORY    number: count of descriptors, which come with it or before it by SCM_RIGHTS; payload:
              table of the parcel (`parcels`) whose small parts are in the next FUNCTION, CALL,
              CALL_OF or RESULT. A sender closes its descriptors as soon as it does not need them
Client to worker:
    OUTPUT    payload: numbers of descriptors, a byte each, with the descriptors by SCM_RIGHTS:
              standard output and error of the calls; sent once, first
    SETUP     payload: the client's surroundings; sent once, before any call
    FUNCTION  number, payload: a function that later calls refer to by this number
    CALL      number, payload: function, arguments, keyword arguments
    CALL_OF   number, payload: number of a function (8 bytes), arguments
    TOKENS    with a descriptor: an eventfd that counts the calls ahead that nobody has begun
    AHEAD     the next call is for later: the worker may begin it without asking, if it then takes a
              token. A call without AHEAD, which a worker has asked for, voids those ahead before it
    NO_MORE   there are no more calls
    LEAVE     answer to AWAY: no call was sent meanwhile
Worker to client:
    HELLO     answer to SETUP; number: its process id; payload: version of its Python, as "3.11".
              A worker that has to start again for these surroundings disconnects first, then reconnects
    READY     the worker wants a call; number: 1 = it has a CPU only while nobody else wants it
    AWAY      the worker wants no call for now
    RESULT    number, payload: what the call returned
    RAISED    number, payload: the exception, and its traceback as text
    LOG       payload: a log record, as a pickled dictionary
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote_to_bytes

SETUP, FUNCTION, CALL, CALL_OF, NO_MORE, LEAVE, OUTPUT, MEMORY, TOKENS, AHEAD = range(1, 11)
HELLO, READY, AWAY, RESULT, RAISED, LOG = range(65, 71)

DIRECTORY = "inner"
"""Directory next to the daemon's sockets."""

NAME_PREFIX = "c"
"""Followed by 8 characters. Such a name is as long as that of the daemon's own socket there, whose
path fits into a socket address."""

FUNCTIONS_MAX = 64
"""Functions that a worker keeps for later calls. With one more it forgets the oldest, and the
client takes that into account."""

DESCRIPTORS_MAX = 32
"""Descriptors that come with one message: those of a function and those of a call."""

ANCILLARY_BYTES = socket.CMSG_SPACE(4 * DESCRIPTORS_MAX)

_HEAD = struct.Struct("<BQQ")
_NUMBER = struct.Struct("<Q")

HEAD_BYTES = _HEAD.size


_URI = "unix:"


def line_of(path: str) -> str:
    """The argument "line" for a socket's path: the path itself, or a URI if it is no valid text.

    Arguments are UTF-8, while a path can have any bytes. A path begins with "/".
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return _URI + quote(os.fsencode(path))
    return path


def path_of(line: str) -> str:
    """The path that an argument "line" stands for, in the form of os.fsdecode."""
    return os.fsdecode(unquote_to_bytes(line.removeprefix(_URI))) if line.startswith(_URI) else line


class CallsInvalid(Exception):
    """The other side sent an invalid frame."""


def pack(kind: int, number: int = 0, payload: bytes | memoryview = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(kind, number, len(payload)) + payload


def pack_call_of(number: int, function: int, payload: bytes | memoryview) -> bytes:
    """A CALL_OF frame."""
    return _HEAD.pack(CALL_OF, number, _NUMBER.size + len(payload)) + _NUMBER.pack(function) + payload


def split_call_of(payload: bytes) -> tuple[int, memoryview]:
    """Number of the function, and the pickled arguments; raises CallsInvalid."""
    if len(payload) < _NUMBER.size:
        raise CallsInvalid(f"CALL_OF frame: got {len(payload)} bytes, wanted at least {_NUMBER.size}")
    return _NUMBER.unpack_from(payload)[0], memoryview(payload)[_NUMBER.size :]


def descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in the ancillary data of a message."""
    return [fd for _, _, data in ancillary for fd in struct.unpack(f"{len(data) // 4}i", data)]


def unpack_head(head: bytes) -> tuple[int, int, int]:
    """Kind, number, and length of the payload."""
    kind, number, length = _HEAD.unpack(head)
    return kind, number, length


class Decoder:
    """Assembles frames from bytes as they arrive."""

    def __init__(self) -> None:
        """Nothing has been received yet."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield kind, number and payload of each frame that is complete now."""
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= HEAD_BYTES:
            kind, number, length = _HEAD.unpack_from(self._buffer, at)
            end = at + HEAD_BYTES + length
            if len(self._buffer) < end:
                break
            yield kind, number, bytes(memoryview(self._buffer)[at + HEAD_BYTES : end])
            at = end
        if at:
            del self._buffer[:at]
