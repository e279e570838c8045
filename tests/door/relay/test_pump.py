"""The upstream direction: frames, resets, unfinished requests, and how much of them one turn handles.

Guards: I12
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ktaskd.door.admission.budget import Purse
from ktaskd.door.admission.prices import CALL_COST_S, PRICE
from ktaskd.door.admission.turns import User
from ktaskd.door.relay import pump
from ktaskd.door.relay.calls import CALL_BYTES
from ktaskd.door.relay.door import REQUESTS_ACCOUNT, REQUESTS_FREE
from ktaskd.door.relay.frames import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM
from ktaskd.door.relay.pump import FRAMES_MAX
from ktaskd.door.relay.upstream import Upstream
from tests.door.relay.real_relay import (
    Who,
    connect,
    echo,
    grpc_behind,
    hold,
    inner_server,
    relay_door,
    run,
    until,
)
from tests.door.relay.test_calls import users_of
from tests.door.relay.test_frames import frame

SETTINGS, PING, UNKNOWN = 4, 6, 0xFA


def head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """Make the header of a frame whose payload does not come."""
    return frame(kind, flags, stream, size)[:9]


@pytest.mark.parametrize(("kind", "size"), [(PING, 8), (UNKNOWN, 0), (DATA, 1)])
def test_frames_when_many_come_at_once_then_few_are_looked_at_in_a_turn(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: int, size: int
) -> None:
    turns: list[int] = []

    def look(self: pump.Pump, inner: Any = pump.Pump._look) -> int:
        turns.append(inner(self))
        return turns[-1]

    monkeypatch.setattr(pump.Pump, "_look", look)

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, echo):
            reader, writer = await connect(reachable_dir)
            sent = PREFACE + frame(kind, 0, 1, size) * 7000
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.close()
            await until(lambda: not door.connections)

    run(test())
    assert max(turns) <= FRAMES_MAX
    assert sum(turns) >= 7000


def test_calls_when_each_is_reset_at_once_then_they_wait_for_their_turns(reachable_dir: Path) -> None:
    """Past use counts, whatever its outcome, so another user is served in between."""
    one = b"".join(
        frame(HEADERS, 4, stream, 20) + frame(DATA, END_STREAM, stream, 5) + frame(RST_STREAM, 0, stream, 4)
        for stream in range(1, 401, 2)
    )

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, hold):
            other = door._turns.join(4711)
            _, writer = await connect(reachable_dir)
            begin_s = door._turns.now()
            writer.write(PREFACE + one)
            await until(lambda: door.connections == 1)
            await until(lambda: waits(user_of(door, os.geteuid())))
            while waits(user_of(door, os.geteuid())):
                other.note()
                assert other.take_turn()
                await asyncio.sleep(0.001)
            took_s = door._turns.now() - begin_s
            assert took_s > 150 * CALL_COST_S * PRICE, "200 calls, of which some came in on credit"
            assert user_of(door, os.geteuid()).calls == 0
            writer.close()
            await until(lambda: not door.connections)

    run(test())


def test_client_when_it_goes_with_much_unread_then_its_connection_ends_with_the_next_turn(
    reachable_dir: Path,
) -> None:
    streams = range(1, 4001, 2)
    one = b"".join(frame(HEADERS, 4, stream, 20) + frame(RST_STREAM, 0, stream, 4) for stream in streams)

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, hold):
            with socket.socket(socket.AF_UNIX) as rude:
                rude.setblocking(False)
                rude.connect(os.fspath(reachable_dir / "ktaskd.sock"))
                await send_all(rude, PREFACE + one)
                await until(lambda: door.connections == 1)
                await until(lambda: waits(user_of(door, os.geteuid())))
                used = user_of(door, os.geteuid()).virtual_s
            await until(lambda: not door.connections)
            assert user_of(door, os.geteuid()).virtual_s - used < 100 * CALL_COST_S, "2000 calls were left"

    run(test())


def user_of(door: Any, uid: int) -> User:
    return next(user for user in users_of(door) if user.uid == uid)


def waits(user: User) -> bool:
    return len(user) > 0


async def send_all(sock: socket.socket, data: bytes) -> int:
    """Return how many bytes are accepted until none is accepted any more."""
    sent, full = 0, 0
    while sent < len(data) and full < 50:
        try:
            sent += sock.send(data[sent : sent + 65536])
            full = 0
        except BlockingIOError:
            full += 1
            await asyncio.sleep(0.01)
    return sent


def test_requests_when_they_do_not_end_then_no_more_is_read_than_may_be_held(reachable_dir: Path) -> None:
    part = frame(DATA, 0, 1, 16384)
    body = PREFACE + frame(HEADERS, 4, 1, 20) + part * (4 * REQUESTS_ACCOUNT // len(part))

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, drain):
            with socket.socket(socket.AF_UNIX) as rude, socket.socket(socket.AF_UNIX) as modest:
                for sock in (rude, modest):
                    sock.setblocking(False)
                    sock.connect(os.fspath(reachable_dir / "ktaskd.sock"))
                assert await send_all(rude, body) < len(body)
                assert REQUESTS_ACCOUNT < door.requests.total < REQUESTS_ACCOUNT + 2 * pump.BUFFER_BYTES
                small = PREFACE + frame(HEADERS, 4, 1, 20) + frame(DATA, END_STREAM, 1, REQUESTS_FREE // 2)
                assert await send_all(modest, small) == len(small)
                await until(lambda: door.requests.total > REQUESTS_ACCOUNT + REQUESTS_FREE // 2)
            await until(lambda: not door.connections)
            assert (door.requests.total, door.requests.waiting) == (0, {})

    run(test())


def test_request_when_it_does_not_end_in_time_then_its_connection_is_cut(reachable_dir: Path) -> None:
    async def test() -> None:
        async with (
            relay_door(reachable_dir, stall_s=0.05) as (door, _, runtime),
            inner_server(runtime, drain),
        ):
            reader, half = await connect(reachable_dir)
            half.write(PREFACE + frame(HEADERS, 4, 1, 20) + frame(DATA, 0, 1, 100))
            _, whole = await connect(reachable_dir)
            whole.write(PREFACE + frame(HEADERS, 4, 1, 20) + frame(DATA, END_STREAM, 1, 100))
            assert await reader.read() == b""
            await until(lambda: door.connections == 1)
            half.close()
            whole.close()
            await until(lambda: not door.connections)

    run(test())


def test_request_when_it_waits_for_its_turn_then_that_time_does_not_count(reachable_dir: Path) -> None:
    """A client may begin many calls first, and then wait for the daemon long before the first one ends."""
    streams = range(1, 401, 2)
    heads = b"".join(frame(HEADERS, 4, stream, 20) for stream in streams)
    ends = b"".join(frame(DATA, END_STREAM, stream, 5) for stream in streams)

    async def test() -> None:
        async with (
            relay_door(reachable_dir, stall_s=0.05) as (door, _, runtime),
            inner_server(runtime, echo),
        ):
            reader, writer = await connect(reachable_dir)
            sent = PREFACE + heads + ends
            begin_s = door._turns.now()
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            assert door._turns.now() - begin_s > 0.1, "longer than a request may take"
            writer.close()
            await until(lambda: not door.connections)

    run(test())


BEGUN = PREFACE + frame(HEADERS, END_HEADERS, 1, 20)


@pytest.mark.parametrize(
    "promise", [head(DATA, END_STREAM, 1, 5), head(HEADERS, END_STREAM | END_HEADERS, 3, 20)]
)
def test_request_when_its_last_frame_is_only_promised_then_its_connection_is_cut(
    reachable_dir: Path, promise: bytes
) -> None:
    async def test() -> None:
        async with (
            relay_door(reachable_dir, stall_s=0.05) as (door, _, runtime),
            inner_server(runtime, drain),
        ):
            reader, writer = await connect(reachable_dir)
            whole = BEGUN + frame(DATA, END_STREAM, 1, 5) if promise[3] == HEADERS else BEGUN
            writer.write(whole + promise)
            assert await reader.read() == b""
            await until(lambda: not door.connections)
            assert door.requests.total == 0
            writer.close()

    run(test())


def test_frame_when_larger_than_the_server_takes_then_its_connection_is_cut(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, drain):
            reader, writer = await connect(reachable_dir)
            writer.write(BEGUN + head(DATA, 0, 1, pump.FRAME_BYTES_MAX + 1))
            assert await reader.read() == b""
            await until(lambda: not door.connections)
            assert door.requests.peak < CALL_BYTES + pump.FRAME_BYTES_MAX
            writer.close()

    run(test())


def test_head_when_its_number_is_no_new_calls_then_no_call_is_counted(reachable_dir: Path) -> None:
    """gRPC ignores it, so nothing would ever end it."""

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, echo):
            reader, writer = await connect(reachable_dir)
            numbers = (5, 3, 1, 6, 0)
            sent = PREFACE + b"".join(frame(HEADERS, END_HEADERS, number, 20) for number in numbers)
            writer.write(sent + frame(DATA, 0, 3, 9000))
            assert await reader.readexactly(len(sent)) == sent
            (user,) = users_of(door)
            assert (user.calls, door.requests.total) == (1, CALL_BYTES)
            writer.close()
            await until(lambda: not door.connections)

    run(test())


def test_requests_when_grpc_knows_them_not_and_closes_then_nothing_stays_counted(reachable_dir: Path) -> None:
    """Idle connections like these would use up descriptors forever."""

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, peers, runtime), grpc_behind(runtime, Who(peers)):
            ends = [await connect(reachable_dir) for _ in range(5)]
            for _, writer in ends:
                begun = frame(HEADERS, END_HEADERS, 5, 0) + frame(HEADERS, END_HEADERS, 3, 0)
                writer.write(PREFACE + frame(SETTINGS, 0, 0, 0) + begun + head(DATA, END_STREAM, 3, 0xFFFFFF))
            for reader, _ in ends:
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
            await until(lambda: not door.connections)
            assert door.requests.total == 0
            for _, writer in ends:
                writer.close()

    run(test())


def test_request_when_others_leave_it_no_room_then_that_time_does_not_count(reachable_dir: Path) -> None:
    async def test() -> None:
        async with (
            relay_door(reachable_dir, stall_s=60.0) as (door, _, runtime),
            inner_server(runtime, drain),
        ):
            others = [Purse(door.requests, 4711 + number) for number in range(4)]
            for purse in others:
                purse.add(REQUESTS_ACCOUNT)
            reader, writer = await connect(reachable_dir)
            writer.write(BEGUN + frame(DATA, 0, 1, 16000) * (REQUESTS_ACCOUNT // 2 // 16000))
            await until(lambda: bool(door.requests.waiting))
            (relay,) = door._relays.values()
            upstream = relay._pumps[0]
            assert isinstance(upstream, Upstream)
            waited_s = upstream._clock()
            await asyncio.sleep(0)
            assert (upstream._clock(), relay.calls.purse.is_over) == (waited_s, True)
            # From now on the limit is only a tenth of a second.
            assert upstream._deadline is not None
            upstream._deadline.cancel()
            upstream._request_s, upstream._deadline = 0.1, None
            for purse in others:
                purse.drop(purse.held)
            with contextlib.suppress(ConnectionResetError):  # as the kernel does where bytes were not read
                assert await reader.read() == b"", "it does not end, so it is cut"
            writer.close()

    run(test())


async def drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 20):
        pass
