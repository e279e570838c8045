"""The relay between real sockets: identity, back-pressure, ends, limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from ktaskd.door.admission.shares import Shares
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.entry import Entry
from ktaskd.door.relay.door import RelayDoor
from ktaskd.door.relay.pump import BUFFER_BYTES
from ktaskd.door.sockets.acceptor import Acceptor
from ktaskd.door.sockets.listener import RuntimeDir
from ktaskd.host.sockets.unixsock import refuse_fds
from ktaskd.model.errors import IdentityMissing
from ktaskd.model.identity import Identity

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
"""The first frame of a server. Source: RFC 9113, section 6.5."""

KERNEL_BYTES = 4 * 1024 * 1024
"""More bytes than all socket buffers of one relay can hold."""


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
"""The connections of the test: closed at its end, however that comes, or the next test would be blamed."""


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


def test_bytes_pass_both_ways_unchanged(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (_, _, runtime), inner_server(runtime, echo):
            reader, writer = await connect(reachable_dir)
            sent = os.urandom(3_000_000)
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    run(test())


def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(reachable_dir: Path) -> None:
    async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read()
        writer.write(b"answer to " + question)

    async def test() -> None:
        async with (
            relay_door(reachable_dir) as (door, _, runtime),
            inner_server(runtime, answer_after_the_end),
        ):
            reader, writer = await connect(reachable_dir)
            writer.write(b"question")
            writer.write_eof()
            assert await reader.read() == b"answer to question"
            await until(lambda: door.connections == 0)
            writer.close()

    run(test())


def test_the_servers_end_ends_the_connection_though_the_client_goes_on(reachable_dir: Path) -> None:
    """gRPC never ends only one side: nobody would answer, and nothing would end the requests."""

    async def end_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100)
        writer.write(b"bye")
        writer.write_eof()
        await reader.read()

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, end_first):
            reader, writer = await connect(reachable_dir)
            writer.write(bytes(100))
            assert await reader.readexactly(3) == b"bye"
            await until(lambda: not door.connections)
            writer.close()

    run(test())


def waiting_bytes(door: RelayDoor) -> int:
    (relay,) = door._relays.values()
    return sum(pump.held for pump in relay._pumps)


@pytest.mark.slow
def test_what_nobody_reads_does_not_grow_the_daemon(reachable_dir: Path) -> None:
    """A client that never reads: the server's answers wait in the server."""
    passed = 0
    servers: list[asyncio.StreamWriter] = []

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal passed
        writer.transport.set_write_buffer_limits(high=0)
        servers.append(writer)
        while True:
            writer.write(bytes(BUFFER_BYTES))
            await writer.drain()
            passed += BUFFER_BYTES

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, flood):
            reader, writer = await connect(reachable_dir)
            transport = writer.transport
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            await until(
                lambda: bool(servers and waiting_bytes(door) and servers[0].transport.get_write_buffer_size())
            )
            assert waiting_bytes(door) <= BUFFER_BYTES
            assert passed < KERNEL_BYTES
            transport.resume_reading()
            await reader.readexactly(2 * KERNEL_BYTES)
            writer.transport.abort()
            await until(lambda: door.connections == 0)

    run(test())


def test_what_the_server_does_not_read_waits_in_the_client(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime):
            with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as client:
                deaf.bind(os.fspath(runtime.inner_path))
                deaf.listen()
                client.setblocking(False)
                client.connect(os.fspath(reachable_dir / "ktaskd.sock"))
                await until(lambda: door.connections == 1)
                sent = 0
                full = False
                while not (full and waiting_bytes(door)):
                    await asyncio.sleep(0)
                    try:
                        sent += client.send(bytes(BUFFER_BYTES))
                    except BlockingIOError:
                        full = True
                assert waiting_bytes(door) <= BUFFER_BYTES
                assert sent < KERNEL_BYTES
            await until(lambda: door.connections == 0)

    run(test())


def test_an_aborted_client_ends_the_servers_connection(reachable_dir: Path) -> None:
    ended = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 10)
        await reader.read()
        ended.set()

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, watch):
            reader, writer = await connect(reachable_dir)
            await reader.readexactly(1)
            writer.transport.abort()
            await ended.wait()
            await until(lambda: door.connections == 0)

    run(test())


def test_without_a_server_behind_it_a_connection_is_closed(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, _):
            reader, writer = await connect(reachable_dir)
            assert await reader.read() == b""
            writer.close()
            assert door.connections == 0

    run(test())


def test_a_full_queue_behind_it_is_waited_for(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (_, _, runtime):
            with socket.socket(socket.AF_UNIX) as slow:
                slow.bind(os.fspath(runtime.inner_path))
                slow.listen(0)
                slow.setblocking(False)
                clients = [await connect(reachable_dir) for _ in range(5)]
                for _, writer in clients:
                    writer.write(b"hello")
                loop = asyncio.get_running_loop()
                for _ in clients:
                    sock, _ = await loop.sock_accept(slow)
                    with sock:
                        assert await loop.sock_recv(sock, 5) == b"hello"
                for _, writer in clients:
                    writer.close()

    run(test())


@pytest.mark.parametrize("caps", [{"per_uid": 2}, {"total": 2}])
def test_caps_close_at_once_and_are_counted(reachable_dir: Path, caps: dict[str, Any]) -> None:
    changes: list[int] = []

    async def test() -> None:
        async with (
            relay_door(reachable_dir, **caps, on_change=lambda: changes.append(1)) as (door, _, runtime),
            inner_server(runtime, hold),
        ):
            kept = [await connect(reachable_dir) for _ in range(2)]
            await until(lambda: door.connections == 2)
            reader, writer = await connect(reachable_dir)
            writer.write_eof()
            assert await reader.read() == SETTINGS, "it could be told why, and said nothing"
            writer.close()
            assert (door.connections, door.refused, len(changes)) == (2, 1, 2)
            kept.pop()[1].close()
            await until(lambda: door.connections == 1)
            kept.append(await connect(reachable_dir))
            await until(lambda: door.connections == 2)
            for _, writer in kept:
                writer.close()

    run(test())


@pytest.mark.other_uid
def test_one_uids_cap_is_not_anothers(
    reachable_dir: Path, run_as: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    async def test() -> None:
        reachable_dir.chmod(0o755)
        async with relay_door(reachable_dir, per_uid=1) as (door, _, runtime), inner_server(runtime, echo):
            (reachable_dir / "ktaskd.sock").chmod(0o666)
            _, writer = await connect(reachable_dir)
            await until(lambda: door.connections == 1)
            code = (
                "import socket; s = socket.socket(socket.AF_UNIX);"
                f"s.connect({os.fspath(reachable_dir / 'ktaskd.sock')!r}); s.send(b'me'); print(s.recv(9))"
            )
            done = await asyncio.to_thread(run_as, 4711, code)
            assert done.stdout == "b'me'\n", done.stderr
            writer.close()

    run(test())


def test_closing_drains_first_and_cuts_then(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, echo):
            reader, writer = await connect(reachable_dir)
            await until(lambda: door.connections == 1)
            closing = asyncio.ensure_future(door.close(20))
            await asyncio.sleep(0)
            writer.write(b"last words")
            assert await reader.readexactly(10) == b"last words"
            assert not closing.done()
            writer.close()
            await closing
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, hold):
            reader, writer = await connect(reachable_dir)
            await until(lambda: door.connections == 1)
            await door.close(0.05)
            assert await reader.read() == b""
            writer.close()

    run(test())


def test_a_failing_description_costs_only_itself_and_cannot_change_who_it_is(reachable_dir: Path) -> None:
    def fail(identity: Identity) -> Identity:
        raise RuntimeError("no /proc today")

    def lie(identity: Identity) -> Identity:
        return replace(identity, uid=identity.uid + 1, pid=1, pidfd=99, cpus=frozenset({3}), nid=1)

    async def seen_by(describe: Callable[[Identity], Identity]) -> Identity:
        async with (
            relay_door(reachable_dir, describe=describe) as (door, peers, runtime),
            inner_server(runtime, echo),
        ):
            reader, writer = await connect(reachable_dir)
            writer.write(b"x")
            await reader.readexactly(1)
            (relay,) = door._relays.values()
            writer.close()
            return peers.identity(f"unix-abstract:{relay.name}")

    async def test() -> None:
        for describe, cpus in ((fail, frozenset[int]()), (lie, frozenset({3}))):
            identity = await seen_by(describe)
            assert (identity.uid, identity.gid, identity.pid) == (os.geteuid(), os.getegid(), os.getpid())
            assert identity.cpus == cpus

    run(test())


def test_no_descriptors_left_delays_but_does_not_end_accepting(
    reachable_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accepted: list[socket.socket] = []

    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(os.fspath(reachable_dir / "s"))
            listener.listen()

            def accept(sock: socket.socket) -> bool:
                accepted.append(sock)
                return True

            acceptor = Acceptor(listener, accept)
            acceptor.start()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno(), hard))
            try:
                client.connect(os.fspath(reachable_dir / "s"))
                await until(lambda: acceptor._pause is not None)
                assert not accepted
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await until(lambda: bool(accepted))
            acceptor.stop()

    run(test())
    assert 1 <= len(caplog.records) < 10, "tried again and again"
    for sock in accepted:
        sock.close()


def test_descriptors_sent_to_the_grpc_socket_never_get_in(reachable_dir: Path) -> None:
    """Dropping the last reference to a file could hang the daemon."""

    async def test() -> None:
        async with relay_door(reachable_dir) as (_, _, runtime), inner_server(runtime, echo):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(os.fspath(reachable_dir / "ktaskd.sock"))
                if not refuse_fds(client):
                    pytest.skip("this kernel has no SO_PASSRIGHTS (Linux 6.16)")
                with pytest.raises(PermissionError):
                    socket.send_fds(client, [b"x"], [0])

    run(test())


ASK = """
import grpc, os, sys
with grpc.insecure_channel("unix:" + sys.argv[1]) as channel:
    method = channel.unary_unary("/test.Who/Am", request_serializer=bytes, response_deserializer=bytes)
    print(os.getpid(), method(b"", wait_for_ready=True, timeout=20).decode())
"""


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


def test_grpc_learns_who_calls_from_many_clients_at_once(reachable_dir: Path) -> None:
    async def ask(path: Path) -> list[int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASK, path, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return [int(word) if word.isdigit() else -1 for word in out.split()]

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, peers, runtime):
            who = Who(peers)
            async with grpc_behind(runtime, who):
                for answers in [
                    await asyncio.gather(*(ask(reachable_dir / "ktaskd.sock") for _ in range(3)))
                ]:
                    for pid, seen_pid, uid, gid in answers:
                        assert (seen_pid, uid, gid) == (pid, os.geteuid(), os.getegid())
                assert all(peer.startswith("unix-abstract:") for peer in who.seen)
                direct = await ask(runtime.inner_path)
                assert direct[1:] == [-1], "a call past the relay has an identity"
                await until(lambda: door.connections == 0)
                (account,) = door._turns._accounts.values()
                assert ([user.calls for user in account.users.values()], account.unbegun) == ([0], 0)
                for peer in who.seen:
                    with pytest.raises(IdentityMissing):
                        peers.identity(peer)

    run(test())
