"""The handoff door of one daemon, with real keepers, and a client that can misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ktask.v1 import handoff
from ktask.v1.handoff import Hand, Handles

from ktaskd.door.admission.shares import Shares
from ktaskd.door.callers.reception import Reception
from ktaskd.door.entry import Entry
from ktaskd.door.handoff import door as door_module
from ktaskd.door.handoff.door import HandoffDoor
from ktaskd.door.handoff.handles import HandleTable
from ktaskd.door.handoff.keeperpool import KEEPERS_MAX, KeeperLimits
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.door.sockets.listener import RuntimeDir

UID = os.geteuid()


@dataclass
class DoorWithKeepers:
    """A handoff door with its keepers and handles."""

    place: Path
    handles: HandleTable
    keepers: Keepers
    door: HandoffDoor
    gone: list[int]

    async def client(self) -> Client:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        sock.connect(os.fspath(self.place / "handoff.sock"))
        return Client(sock)


class Client:
    """A client that can misbehave."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if fds:
            socket.send_fds(self.sock, [data], fds)
        else:
            self.sock.send(data)

    async def receive(self) -> handoff.Reply | None:
        """Return a reply; None at the end of the connection."""
        data = await self.loop.sock_recv(self.sock, handoff.REPLY_BYTES_MAX)
        return handoff.decode_reply(data) if data else None

    async def hand(self, *fds: int, flags: Sequence[int] = ()) -> handoff.Reply | None:
        self.send(handoff.encode_request(Hand(7, tuple(flags) or (0,) * len(fds))), fds)
        return await self.receive()

    async def handles(self, *fds: int) -> tuple[str, ...]:
        reply = await self.hand(*fds)
        assert isinstance(reply, Handles), reply
        return reply.handles

    def close(self) -> None:
        self.sock.close()


@asynccontextmanager
async def door_with_keepers(
    place: Path,
    *,
    handles_per_uid: int = 100,
    per_uid: int = 50,
    total: int = 100,
    reception: Reception | None = None,
    keepers_total: int = KEEPERS_MAX,
    **limits: Any,
) -> AsyncIterator[DoorWithKeepers]:
    gone: list[int] = []
    runtime = RuntimeDir.claim(place)
    table = HandleTable(per_uid=handles_per_uid, on_gone=gone.append)
    keeping = Keepers(KeeperLimits(keepers_total, **limits), on_gone=gone.append)
    entry = Entry(reception=reception or Reception())
    shares = Shares("connections", total=total, per_uid=per_uid, admins=entry.reception.admins)
    with runtime.listen("handoff.sock", mode=0o600) as listener:
        door = HandoffDoor(listener, table, keeping, shares, entry)
        await door.start()
        try:
            yield DoorWithKeepers(place, table, keeping, door, gone)
        finally:
            await door.close()
            await keeping.close()
            runtime.close()
    assert (len(table), door.connections) == (0, 0)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            await test

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def memory(size: int = 4096) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    return fd


def as_uid(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    """Make later connections seem to come from this uid."""
    monkeypatch.setattr(door_module, "read_peer_credentials", lambda sock: (os.getpid(), uid, uid))


def descriptors_of(pid: int) -> list[str]:
    """Return a process's open files; none if only root may know those of a keeper."""
    links: list[str] = []
    with contextlib.suppress(PermissionError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return links


def holds_memory(pid: int) -> bool:
    """Whether a client's memory is still open in a process."""
    return any("memfd" in link for link in descriptors_of(pid))


def is_running(pid: int) -> bool:
    """Whether a process runs and is no zombie, which somebody else has to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
