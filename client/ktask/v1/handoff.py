"""Messages of the handoff socket, as bytes. Pure; both ends use it.

The handoff socket (``DIR/handoff.sock``) takes open file descriptors and returns
handles for them, which a job's sources then name. This is all that a client in
another language needs to know:

Connection
    AF_UNIX, SOCK_SEQPACKET: one send is one message, one receive is one
    message. Numbers are little endian and unsigned, there is no padding.
    A client sends requests, and the daemon answers each with one reply, in
    order. Requests may be sent ahead of replies. The daemon reads the next
    request when it could send the reply to the one before, so it stops reading
    from a client that reads no replies.
    All handles of a connection end when it closes, except for jobs that already
    use them. Keep it open until the jobs were submitted.

Header, 12 bytes, of every message in both directions
    offset 0   4 bytes   magic, the ASCII letters "KTFD"
    offset 4   u8        version, 1
    offset 5   u8        kind, see below
    offset 6   u16       count, see below
    offset 8   u32       number: any number that the client chose, not 0; a
                         reply carries the number of its request. An error
                         with number 0 is about the connection as a whole,
                         and the connection is closed after it.

Requests
    kind 1, HAND: hand descriptors over.
        count   1 to 253, the number of descriptors (SCM_MAX_FD, unix(7))
        body    `count` bytes, one per descriptor, its flags:
                bit 0, OWN_OFFSET: the sender promises that nobody, itself
                included, uses the file offset of this open file description
                from now on (the daemon may then move it, to find holes).
                All other bits must be 0.
        Exactly `count` descriptors ride along, in one SCM_RIGHTS message, in
        the order of the flags. They stay open in the sender; it may close its
        copies once the reply has come. The kernel limits the descriptors that
        one user has sent and nobody has received (ETOOMANYREFS): send fewer
        at a time, or again a moment later.
    kind 2, DROP: give handles of this connection back.
        count   1 to 253, the number of handles
        body    `count` handles
        Handles of other connections are ignored.

Replies
    kind 65, HANDLES: answer to HAND.
        count   as in the request
        body    `count` handles, in the order of the descriptors
    kind 66, DROPPED: answer to DROP.
        count   as in the request; no body
    kind 67, ERROR: the request did nothing at all; no descriptor was kept.
        count   0
        body    i16 index of the refused descriptor, -1 if it is none in
                particular; u8 length of the reason, u16 length of the
                message, then the reason (ASCII, UPPER_SNAKE, stable) and the
                message (UTF-8, for people)
        Reasons: FD_UNSUITABLE (the descriptor cannot be used; the message says
        why), QUOTA_FULL (this uid has reached its limit of handles or
        connections), KEEPER_SILENT (examining a descriptor took too long; the
        connection is closed), PROTOCOL_INVALID (not a message as described
        here; the connection is closed).

A handle is 32 bytes, lower-case hexadecimal digits in ASCII, not terminated:
128 random bits. It works for every process of the uid that connected.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

MAGIC = b"KTFD"
VERSION = 1
HAND, DROP = 1, 2
HANDLES, DROPPED, ERROR = 65, 66, 67

OWN_OFFSET = 0x1
"""Flag: nobody uses the offset of this open file description."""

FDS_MAX = 253
"""Descriptors in one HAND, and handles in one DROP."""

HANDLE_BYTES = 32
REASON_BYTES_MAX = 64
TEXT_BYTES_MAX = 1024

_HEAD = struct.Struct("<4sBBHI")
_ERROR = struct.Struct("<hBH")
_HANDLES = re.compile(rb"(?:[0-9a-f]{32})*")

HEAD_BYTES = _HEAD.size
REQUEST_BYTES_MAX = _HEAD.size + FDS_MAX * HANDLE_BYTES
REPLY_BYTES_MAX = _HEAD.size + max(FDS_MAX * HANDLE_BYTES, _ERROR.size + REASON_BYTES_MAX + TEXT_BYTES_MAX)


class HandoffInvalid(ValueError):
    """The other side sent an invalid message."""


@dataclass(frozen=True, slots=True)
class Hand:
    """Request: hand over one descriptor for each of `flags`."""

    number: int
    flags: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Request: give `handles` back."""

    number: int
    handles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handles:
    """Reply to Hand: one handle for each descriptor, in their order."""

    number: int
    handles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Reply to Drop."""

    number: int
    count: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Reply: nothing was done. `index` is the descriptor at fault, or -1."""

    number: int
    reason: str
    message: str
    index: int = -1


Request = Hand | Drop
Reply = Handles | Dropped | Refused


def encode_request(request: Request) -> bytes:
    """The bytes of a request; raises HandoffInvalid if a value is out of bounds."""
    if isinstance(request, Hand):
        _check_count(len(request.flags))
        if any(flag & ~OWN_OFFSET for flag in request.flags):
            raise HandoffInvalid(f"flags {list(request.flags)}: unknown bits, wanted 0 or {OWN_OFFSET}")
        return _head(HAND, len(request.flags), request.number) + bytes(request.flags)
    _check_count(len(request.handles))
    return _head(DROP, len(request.handles), request.number) + _pack_handles(request.handles)


def decode_request(data: bytes) -> Request:
    """The request in `data`; raises HandoffInvalid."""
    kind, count, number = _unpack_head(data)
    body = data[_HEAD.size :]
    if not number:
        raise HandoffInvalid("number 0: must not be 0")
    if kind not in (HAND, DROP):
        raise HandoffInvalid(f"kind {kind}: not a request, wanted {HAND} or {DROP}")
    _check_count(count)
    if kind == DROP:
        return Drop(number, _unpack_handles(body, count))
    if len(body) != count:
        raise HandoffInvalid(f"HAND of {count} descriptors: {len(body)} flags")
    if any(flag & ~OWN_OFFSET for flag in body):
        raise HandoffInvalid(f"flags {list(body)}: unknown bits, wanted 0 or {OWN_OFFSET}")
    return Hand(number, tuple(body))


def peek_number(data: bytes) -> int:
    """The number of a possibly invalid request; 0 if it has none."""
    try:
        return _unpack_head(data)[2]
    except HandoffInvalid:
        return 0


def encode_reply(reply: Reply) -> bytes:
    """The bytes of a reply. Texts that are too long are truncated."""
    if isinstance(reply, Handles):
        return _head(HANDLES, len(reply.handles), reply.number) + _pack_handles(reply.handles)
    if isinstance(reply, Dropped):
        return _head(DROPPED, reply.count, reply.number)
    reason = reply.reason.encode("ascii", "replace")[:REASON_BYTES_MAX]
    text = reply.message.encode("utf-8", "replace")[:TEXT_BYTES_MAX]
    error = _ERROR.pack(reply.index, len(reason), len(text))
    return _head(ERROR, 0, reply.number) + error + reason + text


def decode_reply(data: bytes) -> Reply:
    """The reply in `data`; raises HandoffInvalid."""
    kind, count, number = _unpack_head(data)
    body = data[_HEAD.size :]
    if kind == HANDLES:
        _check_count(count)
        return Handles(number, _unpack_handles(body, count))
    if kind == DROPPED:
        if body:
            raise HandoffInvalid(f"DROPPED: body of {len(body)} bytes, must be empty")
        return Dropped(number, count)
    if kind == ERROR:
        return _unpack_error(number, body)
    raise HandoffInvalid(f"kind {kind}: not a reply, wanted {HANDLES}, {DROPPED} or {ERROR}")


def _unpack_error(number: int, body: bytes) -> Refused:
    if len(body) < _ERROR.size:
        raise HandoffInvalid(f"ERROR: body of {len(body)} bytes, wanted at least {_ERROR.size}")
    index, n_reason, n_text = _ERROR.unpack_from(body)
    texts = body[_ERROR.size :]
    if len(texts) != n_reason + n_text:
        raise HandoffInvalid(f"ERROR: {len(texts)} bytes of text, wanted {n_reason + n_text}")
    # A truncated text may end inside a character.
    reason, text = (part.decode("utf-8", "replace") for part in (texts[:n_reason], texts[n_reason:]))
    return Refused(number, reason, text, index)


def _head(kind: int, count: int, number: int) -> bytes:
    return _HEAD.pack(MAGIC, VERSION, kind, count, number)


def _unpack_head(data: bytes) -> tuple[int, int, int]:
    if len(data) < _HEAD.size:
        raise HandoffInvalid(f"message of {len(data)} bytes: wanted at least {_HEAD.size}")
    magic, version, kind, count, number = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise HandoffInvalid(f"magic {magic!r}: wanted {MAGIC!r}")
    if version != VERSION:
        raise HandoffInvalid(f"version {version}: wanted {VERSION}")
    return kind, count, number


def _check_count(count: int) -> None:
    if not 1 <= count <= FDS_MAX:
        raise HandoffInvalid(f"count {count}: wanted 1 to {FDS_MAX}")


def _pack_handles(handles: Sequence[str]) -> bytes:
    packed = "".join(handles).encode("ascii", "replace")
    if any(len(handle) != HANDLE_BYTES for handle in handles) or not _HANDLES.fullmatch(packed):
        raise HandoffInvalid(f"handles: wanted {HANDLE_BYTES} lower-case hexadecimal digits each")
    return packed


def _unpack_handles(body: bytes, count: int) -> tuple[str, ...]:
    if len(body) != count * HANDLE_BYTES:
        raise HandoffInvalid(f"{count} handles: {len(body)} bytes, wanted {count * HANDLE_BYTES}")
    if not _HANDLES.fullmatch(body):
        raise HandoffInvalid("handles: wanted lower-case hexadecimal digits")
    text = body.decode("ascii")
    return tuple(text[i : i + HANDLE_BYTES] for i in range(0, len(text), HANDLE_BYTES))
