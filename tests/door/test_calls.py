"""Calls that wait in a relay for their turn: nothing of them is lost, and nothing is left of them."""

from __future__ import annotations

from pathlib import Path

from ktaskd.door.frames import DATA, HEADERS, PREFACE
from tests.door.test_frames import frame
from tests.door.test_relay import connect, echo, hold, inner_server, relay_door, run, until


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
            (queue,) = door._turns._queues.values()
            held = 0
            got = b""
            while len(got) < len(sent):
                got += await reader.read(10_000)
                held = max(held, len(queue))
            assert got == sent
            assert held, "a call waited"
            assert queue.calls == len(calls)
            writer.close()
            await until(lambda: not door.connections)
            assert (queue.calls, queue.unbegun, len(queue)) == (0, 0, 0)

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
            (queue,) = door._turns._queues.values()
            assert (queue.calls, queue.unbegun, len(queue), queue.members) == (0, 0, 0, 0)

    run(test())
