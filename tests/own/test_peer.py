"""A worker's connection: what it says without sense ends it, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest
from ktask.own.bursts import Burst, Peer
from ktask.own.poller import Poller
from ktask.v1 import calls as wire


@pytest.fixture
def ends() -> Iterator[tuple[Peer, socket.socket]]:
    """The program's end of a connection, and the worker's."""
    poller, (ours, theirs) = Poller(), socket.socketpair()
    ours.setblocking(False)
    poller.open()
    peer = Peer(ours, cast(Burst, None), poller)
    with theirs:
        yield peer, theirs
    peer.close()
    poller.close()


def test_memory_when_it_names_more_descriptors_than_came_then_the_end(
    ends: tuple[Peer, socket.socket],
) -> None:
    peer, worker = ends
    worker.sendall(wire.pack(wire.MEMORY, 2, b"table") + wire.pack(wire.RESULT, 1, b"value"))
    assert peer.receive() is None


def test_frames_when_they_make_sense_then_each_is_given_out(ends: tuple[Peer, socket.socket]) -> None:
    peer, worker = ends
    worker.sendall(wire.pack(wire.READY, 1) + wire.pack(wire.RESULT, 7, b"value"))
    received = peer.receive()
    assert received is not None
    assert [(kind, number, bytes(parcel.inline)) for kind, number, parcel in received] == [
        (wire.READY, 1, b""),
        (wire.RESULT, 7, b"value"),
    ]
