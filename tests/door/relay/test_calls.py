"""Calls that wait in a relay for their turn: none is lost, and none leaves anything behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ktaskd.door.admission.budget import Budget, Purse
from ktaskd.door.admission.turns import Turns, User
from ktaskd.door.relay.calls import CALL_BYTES, PREFIX_BYTES, Calls
from ktaskd.door.relay.door import REQUESTS_ACCOUNT, RelayDoor
from ktaskd.door.relay.frames import DATA, END_HEADERS, HEADERS, PREFACE
from tests.door.relay.real_relay import connect, echo, hold, inner_server, relay_door, run, until
from tests.door.relay.test_frames import frame


def users_of(door: RelayDoor) -> list[User]:
    return [user for account in door._turns._accounts.values() for user in account.users.values()]


def test_bytes_of_calls_that_wait_for_their_turn_pass_unchanged(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, echo):
            reader, writer = await connect(reachable_dir)
            calls = [
                frame(HEADERS, 0, stream, 200 * (stream % 7)) + frame(DATA, 1, stream, stream * 100)
                for stream in range(1, 81, 2)
            ]
            sent = PREFACE + b"".join(calls)
            writer.write(sent)
            (user,) = users_of(door)
            held = 0
            got = b""
            while len(got) < len(sent):
                got += await reader.read(10_000)
                held = max(held, len(user))
            assert got == sent
            assert held, "a call waited"
            assert user.calls == len(calls)
            writer.close()
            await until(lambda: not door.connections)
            assert (user.calls, user.account.unbegun, len(user)) == (0, 0, 0)

    run(test())


def test_a_client_that_goes_while_its_calls_wait_leaves_nothing(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, hold):
            for _ in range(5):
                _, writer = await connect(reachable_dir)
                writer.write(PREFACE + b"".join(frame(HEADERS, 0, stream, 9) for stream in range(1, 99, 2)))
                await writer.drain()
                writer.transport.abort()
            await until(lambda: not door.connections)
            (user,) = users_of(door)
            assert (user.calls, user.account.unbegun, len(user), user.members) == (0, 0, 0, 0)
            assert (door.requests.total, door.requests.waiting) == (0, {})

    run(test())


def test_calls_when_no_request_ends_then_few_are_open_at_one_time(reachable_dir: Path) -> None:
    """Each call takes gRPC some ten thousand bytes, though the client has sent almost nothing."""

    async def test() -> None:
        async with relay_door(reachable_dir) as (door, _, runtime), inner_server(runtime, hold):
            _, writer = await connect(reachable_dir)
            heads = b"".join(frame(HEADERS, 4, stream, 9) for stream in range(1, 4001, 2))
            writer.write(PREFACE + heads)
            (user,) = users_of(door)
            await until(lambda: bool(door.requests.waiting))
            assert user.calls <= REQUESTS_ACCOUNT // CALL_BYTES + 4
            writer.transport.abort()
            await until(lambda: not door.connections)
            assert door.requests.total == 0

    run(test())


def test_request_when_taken_over_then_the_one_of_its_size_is_let_go() -> None:
    """Other requests may be complete as well: refused ones, or streams whose client has finished."""

    async def test() -> None:
        budget = Budget(free=0, account=1 << 30, total=1 << 30)
        calls = Calls(Turns().join(1), Purse(budget, 1))
        for stream, size in ((1, 10), (3, 4_000_000), (5, 10)):
            assert calls.begin(stream, lambda: None)
            calls.sent(stream, size + PREFIX_BYTES)
            calls.sent_all(stream)
        calls.taken(4_000_000)
        assert calls.purse.held == 2 * (CALL_BYTES + PREFIX_BYTES + 10)
        calls.end_all()
        assert budget.total == 0

    run(test())


def test_requests_when_the_server_answers_before_the_last_one_then_the_connection_lives(
    reachable_dir: Path,
) -> None:
    """A handler has begun with the stream of requests, and limits the wait for the next one itself."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(ANSWER)

    async def test() -> None:
        async with (
            relay_door(reachable_dir, stall_s=0.05) as (door, _, runtime),
            inner_server(runtime, answer),
        ):
            reader, writer = await connect(reachable_dir)
            writer.write(PREFACE + frame(HEADERS, END_HEADERS, 1, 20) + frame(DATA, 0, 1, 5000))
            assert await reader.readexactly(len(ANSWER)) == ANSWER
            assert door.requests.total == 0
            (relay,) = door._relays.values()
            assert relay.calls.oldest_unfinished_s() is None
            rude_reader, rude = await connect(reachable_dir)
            rude.write(PREFACE + frame(HEADERS, END_HEADERS, 3, 20))
            while await rude_reader.read(100):
                pass
            assert list(door._relays.values()) == [relay], "only the other one was cut"
            for one in (writer, rude):
                one.close()
            await until(lambda: not door.connections)

    run(test())


ANSWER = frame(HEADERS, END_HEADERS, 1, 20)
