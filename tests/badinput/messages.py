"""Messages that are too large, or that are no messages of the contract."""

from __future__ import annotations

from typing import Any

import grpc
from ktask.v1 import jobs_pb2 as pb

from tests.badinput.case import Accept, Act, Case, Group, Refuse

RUN = "ktask.v1.Jobs/Run"


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length, size = len(data), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def deep(levels: int) -> bytes:
    """A Run with an argument that is a list in a list in a list."""
    value = b"\x08\x00"
    for _ in range(levels):
        value = field(6, field(1, value))
    return field(1, field(1, b"f") + field(2, field(1, field(1, b"x") + field(2, value))))


def sent(request: bytes, method: str = RUN, **options: Any) -> Act:
    return lambda world: world.raw(method, request, **options)


def large(size: int) -> bytes:
    return pb.RunRequest(spec=pb.JobSpec(labels={"a": "b" * size})).SerializeToString()


def unparsed(why: str) -> Refuse:
    message = (
        "request: got … bytes that are no message of the contract "
        f"(Error parsing message with type 'ktask.v1.…': {why})"
    )
    return Refuse("INVALID_ARGUMENT", "SPEC_INVALID", message)


BAD_TEXT = "String field had bad UTF-8"

MESSAGES: Group = (
    "Messages",
    [
        Case(
            "a message above 4 MiB",
            sent(large(4 << 20)),
            Refuse("RESOURCE_EXHAUSTED", "", "…eceived message larger than max (… vs. 4194304)"),
        ),
        Case(
            "a message of 64 MiB, compressed to 64 KiB",
            sent(large(64 << 20), compression=grpc.Compression.Gzip),
            Refuse("RESOURCE_EXHAUSTED", "", "Decompressed message larger than max"),
        ),
        Case(
            "an unknown method",
            sent(b"", "ktask.v1.Jobs/Explode"),
            Refuse("UNIMPLEMENTED", "", "Method not found!"),
        ),
        Case(
            "an empty message",
            sent(b""),
            Refuse(
                "INVALID_ARGUMENT",
                "SPEC_INVALID",
                'spec.function: got "", wanted the name of a function',
                "spec.function",
            ),
        ),
        Case("bytes that are no message", sent(b"\xff" * 64), unparsed("Wire format was corrupt")),
        Case("a message that is cut off", sent(b"\x0a\x7fselftest"), unparsed("Wire format was corrupt")),
        Case("a function's name that is no UTF-8", sent(field(1, field(1, b"\xff\xfe"))), unparsed(BAD_TEXT)),
        Case(
            "a path that is no UTF-8",
            sent(field(1, field(4, field(2, b"/\xed\xa0\x80")))),
            unparsed(BAD_TEXT),
        ),
        Case("a label that is no UTF-8", sent(field(1, field(9, field(1, b"\xc0\x80")))), unparsed(BAD_TEXT)),
        Case("a list, 200 deep", sent(deep(200)), unparsed("Exceeded upb_DecodeOptions_MaxDepth")),
        Case("a job's id that is no UTF-8", sent(field(1, b"\xff"), "ktask.v1.Jobs/Get"), unparsed(BAD_TEXT)),
        Case(
            "fields that are not in the contract",
            sent(field(15, b"x") + field(1, field(1, b"selftest.noop") + field(14, b"y"))),
            Accept("a newer client's, as protobuf has it"),
        ),
    ],
)

GROUPS = [MESSAGES]
