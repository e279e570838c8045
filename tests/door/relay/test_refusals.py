"""Callers that the relay refuses get a status of gRPC, and cost little.

Guards: I12
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc
import pytest

from ktaskd.door.callers.reception import Reception
from ktaskd.door.relay import refusals
from ktaskd.door.relay.frames import DATA, PREFACE
from tests.door.relay.real_relay import connect, hold, inner_server, relay_door, run, until
from tests.door.relay.test_frames import frame

PING = 6

ASK = """
import grpc, sys
with grpc.insecure_channel("unix:" + sys.argv[1], [("grpc.default_authority", "localhost")]) as channel:
    method = channel.unary_unary("/any/Method", request_serializer=bytes, response_deserializer=bytes)
    try:
        method(b"", timeout=20)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""


async def asked(place: Path) -> str:
    """Return what a gRPC client gets."""
    import sys

    words = [sys.executable, "-c", ASK, os.fspath(place / "ktaskd.sock")]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode().strip()


def test_connection_when_there_are_too_many_then_the_call_is_told_why(reachable_dir: Path) -> None:
    async def test() -> None:
        async with relay_door(reachable_dir, per_uid=1) as (door, _, runtime), inner_server(runtime, hold):
            _, writer = await connect(reachable_dir)
            await until(lambda: door.connections == 1)
            told = await asked(reachable_dir)
            reached = f"uid {os.geteuid()} has reached its limit of 1; end some first"
            assert told == f"RESOURCE_EXHAUSTED connections: {reached}"
            writer.close()
            await until(lambda: not door.connections)

    run(test())


def test_connection_when_it_is_nobodys_then_the_call_is_told_so(reachable_dir: Path) -> None:
    """If the daemon's own uid is that one as well, it does not take others for itself."""

    async def test() -> None:
        reception = Reception(nobody=os.geteuid())
        async with relay_door(reachable_dir, reception=reception) as (door, _, _):
            told = await asked(reachable_dir)
            assert told.startswith(f"UNAUTHENTICATED uid {os.geteuid()} stands for every user"), told
            assert door.refused

    run(test())


def test_refusal_when_many_are_refused_at_once_then_all_are_closed(reachable_dir: Path) -> None:
    async def test() -> None:
        reception = Reception(nobody=os.geteuid())
        async with relay_door(reachable_dir, reception=reception) as (door, _, _):
            readers = [await connect(reachable_dir) for _ in range(100)]
            for reader, writer in readers:
                await reader.read()
                writer.close()
            assert (door.refused, door._refusals._pending) == (100, set())

    run(test())


@pytest.mark.parametrize(
    "chatter", [frame(PING, 0, 0, 0) * (refusals.FRAMES_MAX + 1), frame(DATA, 0, 1, refusals.BYTES_MAX)]
)
def test_refusal_when_much_comes_before_a_call_then_closed_at_once(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch, chatter: bytes
) -> None:
    """No account pays for the look at it."""
    monkeypatch.setattr(refusals, "PATIENCE_S", 1e6)

    async def test() -> None:
        reception = Reception(nobody=os.geteuid())
        async with relay_door(reachable_dir, reception=reception) as (door, _, _):
            _, writer = await connect(reachable_dir)
            await until(lambda: bool(door._refusals._pending))
            (one,) = door._refusals._pending
            writer.write(PREFACE + chatter)
            await until(lambda: not door._refusals._pending)
            assert one.left >= 0 <= one.room
            writer.close()

    run(test())


def test_refusal_when_written_then_grpc_can_read_any_message() -> None:
    from ktaskd.door.relay.refusals import encode_refusal

    for length in (0, 1, 100, 127, 128, 1000):
        data = encode_refusal(3, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "ä" * length)
        size = int.from_bytes(data[:3], "big")
        assert data[9 + size + 3] == 7, "GOAWAY is behind it"
