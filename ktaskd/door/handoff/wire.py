"""Messages between the daemon and one keeper, as bytes. Pure.

One message is one datagram of a SOCK_SEQPACKET pair. `conn` is the daemon's
number of a client's connection (0 = none), `number` that of a request.

Daemon to keeper:
    SERVE   conn               with a client's connection: take requests from it
    ANSWER  conn, reply        send these bytes to the client
    CLOSE   conn               close the connection
    OPEN    number, want       open a path
    BURY                       with connections: close them, however long that takes
Keeper to daemon:
    READY
    BUSY    conn, number       the next step may hang, on behalf of this request
    IDLE                       the step did not hang
    HANDED  conn, number, facts    with vetted descriptors
    DROP    conn, number, handles  the client gives these handles back
    ENDED   conn               the connection has ended; send CLOSE
    OPENED  number, facts      with one vetted descriptor
    UNOPENED number, refusal   the path cannot be used
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from ktaskd.model.source import SourceFacts

SERVE, ANSWER, CLOSE, OPEN, BURY = range(1, 6)
READY, BUSY, IDLE, HANDED, DROP, ENDED, OPENED, UNOPENED = range(65, 73)

FRAME_BYTES_MAX = 64 * 1024
"""Longest message. A path of 4096 bytes may take 24 KiB in escaped form."""

_HEAD = struct.Struct("<BQI")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: int
    conn: int = 0
    number: int = 0
    body: bytes = b""

    def pack(self) -> bytes:
        """Return its bytes."""
        return _HEAD.pack(self.kind, self.conn, self.number) + self.body


def unpack(data: bytes) -> Frame:
    """Return the message in `data`; raises struct.error if there is none."""
    kind, conn, number = _HEAD.unpack_from(data)
    return Frame(kind, conn, number, data[_HEAD.size :])


def pack_json(value: Any) -> bytes:
    """Encode a body that is not bytes already."""
    return json.dumps(value).encode()


def unpack_json(body: bytes) -> Any:
    """Decode what pack_json made; raises ValueError."""
    return json.loads(body)


def pack_facts(facts: list[SourceFacts]) -> bytes:
    """Encode the facts of descriptors, in their order: a list for each, since there may be 253."""
    return pack_json([one.row for one in facts])


def unpack_facts(body: bytes) -> list[SourceFacts]:
    """Decode what pack_facts made; raises ValueError, KeyError or TypeError."""
    return [SourceFacts.of_row(row) for row in unpack_json(body)]
