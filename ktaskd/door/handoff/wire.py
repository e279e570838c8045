"""Messages between the daemon and one keeper, as bytes. Pure.

One message is one datagram of a SOCK_SEQPACKET pair. `conn` is the daemon's
number of a client's connection (0 = none), `number` that of a request.

Daemon to keeper:
    SERVE   conn               a client's connection rides along: take requests from it
    ANSWER  conn, reply        send these bytes to the client
    CLOSE   conn               close the connection
    OPEN    number, want       open a path
    BURY                       descriptors ride along: close them, however long that takes
Keeper to daemon:
    READY
    BUSY    conn, number       what comes now may hang, on behalf of this request
    IDLE                       it did not hang
    HANDED  conn, number, facts    vetted descriptors ride along
    DROP    conn, number, handles
    ENDED   conn               the connection is at its end; CLOSE is wanted
    OPENED  number, facts      one vetted descriptor rides along
    UNOPENED number, refusal
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

from ktaskd.model.function import Access
from ktaskd.model.source import SourceFacts, SourceKind

SERVE, ANSWER, CLOSE, OPEN, BURY = range(1, 6)
READY, BUSY, IDLE, HANDED, DROP, ENDED, OPENED, UNOPENED = range(65, 73)

FRAME_BYTES_MAX = 64 * 1024
"""Longest message. A path of 4096 bytes may be 24 KiB when it is escaped."""

_HEAD = struct.Struct("<BQI")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: int
    conn: int = 0
    number: int = 0
    body: bytes = b""

    def pack(self) -> bytes:
        """Its bytes."""
        return _HEAD.pack(self.kind, self.conn, self.number) + self.body


def unpack(data: bytes) -> Frame:
    """The message in `data`; raises struct.error if it is none."""
    kind, conn, number = _HEAD.unpack_from(data)
    return Frame(kind, conn, number, data[_HEAD.size :])


def pack_json(value: Any) -> bytes:
    """A body that is not bytes already."""
    return json.dumps(value).encode()


def unpack_json(body: bytes) -> Any:
    """Inverse of pack_json; raises ValueError."""
    return json.loads(body)


def pack_facts(facts: list[SourceFacts]) -> bytes:
    """The facts of descriptors, in their order."""
    return pack_json([asdict(one) | {"kind": one.kind.value, "access": one.access.value} for one in facts])


def unpack_facts(body: bytes) -> list[SourceFacts]:
    """Inverse of pack_facts; raises ValueError, KeyError or TypeError."""
    return [
        SourceFacts(**one | {"kind": SourceKind(one["kind"]), "access": Access(one["access"])})
        for one in unpack_json(body)
    ]
