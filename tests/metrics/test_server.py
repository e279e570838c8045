"""The socket of the metrics, with clients that are slow, silent, many or gone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ktaskd.metrics.server import CONNECTIONS_PER_UID, DEADLINE_S, Fresh, Server
from ktaskd.metrics.socketfile import SocketFile

GET = b"GET /metrics HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def serving(
    place: Path, text: Callable[[], bytes] = lambda: b"figures", deadline_s: float = DEADLINE_S
) -> AsyncIterator[tuple[Server, str]]:
    path = os.fspath(place / "m.sock")
    made = SocketFile(path, mode=0o600)
    server = Server(made.sock, text, "text/x", frozenset(), deadline_s=deadline_s)
    server.start()
    try:
        yield server, path
    finally:
        await server.close()
        made.close()
        assert server.connections == 0


async def ask(path: str, request: bytes = GET) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_answer_when_asked_in_small_pieces_then_the_figures(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as (_, path):
            reader, writer = await asyncio.open_unix_connection(path)
            for i in range(len(GET)):
                writer.write(GET[i : i + 1])
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.read()).endswith(b"\r\n\r\nfigures")
            writer.close()

    asyncio.run(story())


def test_answer_when_a_client_is_silent_then_it_is_cut_and_others_are_served(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, deadline_s=0.2) as (server, path):
            reader, writer = await asyncio.open_unix_connection(path)
            assert b"figures" in await ask(path)
            assert await reader.read() == b""  # no answer, and the end
            assert server.connections == 0
            writer.close()

    asyncio.run(story())


def test_answer_when_a_client_does_not_read_then_it_is_cut(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, lambda: b"x" * 2**22, deadline_s=0.2) as (server, path):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(GET)
                while not server.connections:
                    await asyncio.sleep(0)
                while server.connections:
                    await asyncio.sleep(0.01)
                client.settimeout(5)
                got = 0
                while piece := client.recv(2**16):
                    got += len(piece)
                assert 0 < got < 2**22

    asyncio.run(story())


def test_connections_when_one_uid_has_its_share_then_refused_until_one_ends(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as (server, path):
            held = [await asyncio.open_unix_connection(path) for _ in range(CONNECTIONS_PER_UID)]
            while server.connections < CONNECTIONS_PER_UID:
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b""
            writer.close()
            held.pop()[1].close()
            while server.connections == CONNECTIONS_PER_UID:
                await asyncio.sleep(0.001)
            assert b"figures" in await ask(path)
            for _, other in held:
                other.close()

    asyncio.run(story())


def test_answer_when_the_client_is_gone_then_nothing_is_left(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as (server, path):
            for request in (b"", b"GET", GET):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                    client.sendall(request)
            assert b"figures" in await ask(path)
            while server.connections:
                await asyncio.sleep(0)

    asyncio.run(story())


def test_text_when_asked_again_at_once_then_not_made_again() -> None:
    now_s, made = [100.0], list[float]()

    def make() -> bytes:
        made.append(now_s[0])
        now_s[0] += 0.1  # it is slow
        return b"%d" % len(made)

    text = Fresh(make, lambda: now_s[0])
    assert (text(), text()) == (b"1", b"1")
    now_s[0] += 4.9
    assert text() == b"1"  # so that making it takes at most a 50th of the time
    now_s[0] += 0.2
    assert text() == b"2"
    assert len(made) == 2
