"""Frames wait in order where the kernel takes no more descriptors."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterable

import pytest

from ktaskd.host.sockets import unixsock
from ktaskd.host.sockets.unixsock import receive
from ktaskd.pool import outbox
from ktaskd.pool.outbox import Outbox

_PATIENCE_S = 30.0


def test_outbox_when_too_many_descriptors_are_on_their_way_then_it_goes_on_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals, real = [OSError(errno.ETOOMANYREFS, "too many")] * 3, unixsock.send

    def send(sock: socket.socket, data: bytes, fds: Iterable[int] = ()) -> None:
        if list(fds) and refusals:
            raise refusals.pop()
        real(sock, data, fds)

    async def story() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        failures: list[str] = []
        out = Outbox(failures.append)
        out.open(ours)
        fd = os.memfd_create("test", os.MFD_CLOEXEC)
        out.send(b"first", [fd, fd])
        out.send(b"second")
        assert not out.is_empty
        os.close(fd)
        got = []
        for _ in range(2):
            async with asyncio.timeout(_PATIENCE_S):
                await _readable(theirs)
            with receive(theirs, 100).fds as fds:
                got.append(len(fds))
        assert got == [2, 0]
        assert out.is_empty
        assert not failures
        assert not refusals
        refusals.append(OSError(errno.ETOOMANYREFS, "too many"))
        out.send(b"third", [ours.fileno()])
        out.close()
        ours.close()
        theirs.close()

    monkeypatch.setattr(outbox, "send", send)
    asyncio.run(story())


async def _readable(sock: socket.socket) -> None:
    ready = asyncio.Event()
    asyncio.get_running_loop().add_reader(sock.fileno(), ready.set)
    await ready.wait()
    asyncio.get_running_loop().remove_reader(sock.fileno())
