"""The part of HTTP/2 and gRPC that one small call after the other needs, as bytes. Pure.

Header fields are sent as literals. The server is told to keep no table of header fields and that
binary ones may be raw, so a gRPC server sends literals as well, none of them in Huffman's code.

Source: RFC 9113, RFC 7541; "gRPC over HTTP/2"; grpc's src/core/ext/transport/chttp2,
GRPC_ALLOW_TRUE_BINARY_METADATA.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
CANCEL, REFUSED_STREAM = 0x8, 0x7
"""Codes of RST_STREAM."""

_HEAD_BYTES = 9
FRAME_BYTES_MAX = 16384
"""Largest payload of a frame without another agreement."""

WINDOW_BYTES = 2**31 - 1
"""The largest window: answers of a daemon are at most 1 MiB, and none is sent before a call."""

_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE, _TRUE_BINARY = 0x1, 0x4, 0xFE03
_STATIC_FIELDS = 61
_STATUS_200 = 8
_POST, _HTTP = b"\x83", b"\x86"
"""Indexed fields ":method: POST" and ":scheme: http"."""


class Unexpected(Exception):
    """The server sent what this module does not read."""


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def ends_stream(self) -> bool:
        """Whether the server sends nothing more in this call."""
        return bool(self.flags & END_STREAM) and self.kind in (DATA, HEADERS)


def encode_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """The bytes of a frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _setting(number: int, value: int) -> bytes:
    return struct.pack(">HI", number, value)


OPENING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + encode_frame(
        SETTINGS,
        0,
        0,
        _setting(_HEADER_TABLE_SIZE, 0)
        + _setting(_INITIAL_WINDOW_SIZE, WINDOW_BYTES)
        + _setting(_TRUE_BINARY, 1),
    )
    + encode_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_BYTES - 65535))
)
"""First bytes of a connection."""


def window_in(settings: bytes) -> int | None:
    """How many bytes of one call the server takes at first, if these settings say it."""
    found = None
    for at in range(0, len(settings) - 5, 6):
        number, value = struct.unpack_from(">HI", settings, at)
        found = value if number == _INITIAL_WINDOW_SIZE else found
    return found


def encode_window(count: int) -> bytes:
    """Lets the server send this many bytes more on the connection."""
    return encode_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", count))


def encode_call(stream: int, method: str, message: bytes, timeout_s: float | None) -> bytes:
    """A whole call: its headers and its one message."""
    block = _POST + _HTTP + _literal(b":path", method.encode()) + _SAME_FIELDS
    if timeout_s is not None:
        block += _literal(b"grpc-timeout", _timeout(timeout_s))
    prefixed = b"\0" + len(message).to_bytes(4, "big") + message
    head = encode_frame(HEADERS, _END_HEADERS, stream, block)
    return head + encode_frame(DATA, END_STREAM, stream, prefixed)


def _literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing and without Huffman coding; both parts are shorter than 127 bytes."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


_SAME_FIELDS = b"".join(
    _literal(*field)
    for field in (
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"ktask"),
    )
)


def _timeout(seconds: float) -> bytes:
    """A time of at most eight digits, rounded up."""
    for unit, parts in ((b"u", 1e6), (b"m", 1e3)):
        if seconds * parts < 1e8 - 1:
            return b"%d%b" % (int(seconds * parts) + 1, unit)
    return b"%dS" % min(int(seconds) + 1, 10**8 - 1)


class Frames:
    """Cuts the bytes of a connection into frames."""

    def __init__(self) -> None:
        """Begin with no bytes."""
        self._bytes = b""

    def add(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with these bytes. Raises Unexpected."""
        data = self._bytes + data if self._bytes else data
        at = 0
        while len(data) - at >= _HEAD_BYTES:
            size = int.from_bytes(data[at : at + 3], "big")
            if size > FRAME_BYTES_MAX:
                raise Unexpected(f"a frame of {size} bytes")
            end = at + _HEAD_BYTES + size
            if end > len(data):
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
            frame = Frame(data[at + 3], data[at + 4], stream, data[at + _HEAD_BYTES : end])
            at = end
            self._bytes = data[at:]
            yield frame
        self._bytes = data[at:]


def fields_of(frame: Frame) -> dict[str, bytes]:
    """The header fields in a HEADERS frame; those known by number alone are left out. Raises Unexpected."""
    if not frame.flags & _END_HEADERS:
        raise Unexpected("header fields in several frames")
    block = content_of(frame)
    found: dict[str, bytes] = {}
    at = 0
    try:
        while at < len(block):
            at = _field(block, at, found)
    except (IndexError, UnicodeDecodeError) as error:
        raise Unexpected("header fields that end in the middle") from error
    return found


def content_of(frame: Frame) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority. Raises Unexpected."""
    payload, start, end = frame.payload, 0, len(frame.payload)
    if frame.flags & _PADDED:
        start, end = 1, end - (payload[0] if payload else end)
    if frame.kind == HEADERS and frame.flags & _PRIORITY:
        start += 5
    if start > end:
        raise Unexpected("padding longer than its frame")
    return payload[start:end]


def _field(block: bytes, at: int, found: dict[str, bytes]) -> int:
    """Read one field, and return where the next one begins."""
    first = block[at]
    if first & 0x80:
        index, at = _integer(block, at, 7)
        if not 0 < index <= _STATIC_FIELDS:
            raise Unexpected(f"header field number {index}")
        if index == _STATUS_200:
            found[":status"] = b"200"
        return at
    if first & 0xE0 == 0x20:
        return _integer(block, at, 5)[1]  # the size of the table, which is 0
    index, at = _integer(block, at, 6 if first & 0x40 else 4)
    name = b""
    if not index:
        name, at = _string(block, at)
    value, at = _string(block, at)
    if name:
        found[name.decode("ascii")] = value
    return at


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of `bits`. Source: RFC 7541, section 5.1."""
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    for shift in range(0, 35, 7):
        byte, at = block[at], at + 1
        value += (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Unexpected("a number that does not end")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    if block[at] & 0x80:
        raise Unexpected("a string in Huffman's code")
    size, at = _integer(block, at, 7)
    if at + size > len(block):
        raise Unexpected("a string that ends in the middle")
    return block[at : at + size], at + size


def number_in(payload: bytes, at: int = 0) -> int:
    """The number of 31 bits in the payload of WINDOW_UPDATE, GOAWAY and the like; 0 if it is not there."""
    return int.from_bytes(payload[at : at + 4], "big") & 0x7FFFFFFF


def binary(value: bytes) -> bytes:
    """The value of a field whose name ends with "-bin": raw after a zero, otherwise in base64."""
    return value[1:] if value[:1] == b"\0" else base64.b64decode(value + b"=" * (-len(value) % 4))


def message_in(pieces: Iterable[bytes]) -> bytes:
    """The one message of an answer. Raises Unexpected."""
    whole = b"".join(pieces)
    if len(whole) < 5 or whole[0] or int.from_bytes(whole[1:5], "big") != len(whole) - 5:
        raise Unexpected(f"an answer of {len(whole)} bytes that is not one plain message")
    return whole[5:]
