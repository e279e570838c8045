"""Calls that wait in a relay for their turn: nothing of them is lost, and nothing is left of them."""

from __future__ import annotations

from pathlib import Path

from ktaskd.door.calls import CALL_BYTES
from ktaskd.door.frames import DATA, HEADERS, PREFACE
from ktaskd.door.relay import REQUESTS_ACCOUNT, RelayDoor
from ktaskd.door.turns import User
from tests.door.test_frames import frame
from tests.door.test_relay import connect, echo, hold, inner_server, relay_door, run, until


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
    """Each costs gRPC some ten thousand bytes, though the client has sent next to nothing."""

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
