"""A relay between real sockets, its clients, and the servers behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from ktaskd.door.admission.shares import Shares
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.entry import Entry
from ktaskd.door.relay.door import RelayDoor
from ktaskd.door.sockets.listener import RuntimeDir
from ktaskd.model.errors import IdentityMissing
from ktaskd.model.identity import Identity

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
"""The first frame of a server. Source: RFC 9113, section 6.5."""


@asynccontextmanager
async def relay_door(
    place: Path,
    *,
    per_uid: int = 100,
    total: int = 100,
    stall_s: float = 0.0,
    describe: Callable[[Identity], Identity] = lambda identity: identity,
    **parts: Any,
) -> AsyncIterator[tuple[RelayDoor, PeerTable, RuntimeDir]]:
    """The door with its peers and directory; `parts` are Entry's."""
    runtime = RuntimeDir.claim(place)
    peers = PeerTable(describe)
    entry = Entry(**parts)
    shares = Shares("connections", total=total, per_uid=per_uid, admins=entry.reception.admins)
    with runtime.listen("ktaskd.sock", mode=0o600) as listener:
        door = RelayDoor(listener, runtime.inner_path, peers, shares, entry, stall_s)
        await door.start()
        try:
            yield door, peers, runtime
        finally:
            await door.close(0)
            runtime.close()
    assert (door.connections, len(peers)) == (0, 0)


@asynccontextmanager
async def inner_server(
    runtime: RuntimeDir,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> AsyncIterator[None]:
    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve_and_close, runtime.inner_path)
    try:
        yield
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100_000):
        writer.write(data)
        await writer.drain()


async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


_writers: list[asyncio.StreamWriter] = []
"""The connections of the test. They are closed at its end in any case, or the next test would be blamed."""


async def connect(place: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    made = await asyncio.open_unix_connection(place / "ktaskd.sock")
    _writers.append(made[1])
    return made


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        try:
            async with asyncio.timeout(30):
                await test
        finally:
            await close_all()

    asyncio.run(bounded())


async def close_all() -> None:
    while _writers:
        writer = _writers.pop()
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Who(grpc.GenericRpcHandler):
    """A service that returns who called."""

    def __init__(self, peers: PeerTable) -> None:
        self.peers = peers
        self.seen: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        async def handle(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            self.seen.append(context.peer())
            try:
                identity = self.peers.identity(context.peer())
            except IdentityMissing:
                return b"nobody"
            return f"{identity.pid} {identity.uid} {identity.gid}".encode()

        return grpc.unary_unary_rpc_method_handler(handle)


@asynccontextmanager
async def grpc_behind(runtime: RuntimeDir, who: Who) -> AsyncIterator[None]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((who,))
    server.add_insecure_port(f"unix:{runtime.inner_path}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)
