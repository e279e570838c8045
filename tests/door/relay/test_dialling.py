"""The cost of a connection before anything is sent on it.

Tests: ktaskd/door/relay/door.py, ktaskd/door/admission/turns.py
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path

import pytest

from ktaskd.door.admission.turns import Turns
from ktaskd.model.identity import Identity
from tests.door.relay.test_door import connect, echo, inner_server, relay_door, run, until


def test_connection_when_it_goes_before_its_turn_then_nothing_is_read_of_its_caller(
    reachable_dir: Path,
) -> None:
    """Connecting and closing costs a client almost nothing, so it must not cost the daemon much."""
    described = []

    def describe(identity: Identity) -> Identity:
        described.append(identity)
        return identity

    async def test() -> None:
        loop = asyncio.get_running_loop()
        # No debt is paid off while the clock stands still, however busy the machine is.
        stands_at_s = [loop.time()]
        turns = Turns(lambda: stands_at_s[0] if stands_at_s else loop.time())
        async with (
            relay_door(reachable_dir, describe=describe, turns=turns) as (door, _, runtime),
            inner_server(runtime, echo),
        ):
            user = turns.join(os.geteuid(), Identity(os.geteuid(), 0, 0).payer)
            user.charge(0.05)
            gone = [await connect(reachable_dir) for _ in range(5)]
            await until(lambda: door.connections == 5)
            assert not described, "each waits for its turn"
            for _, writer in gone:
                writer.close()
            stands_at_s.clear()
            reader, writer = await connect(reachable_dir)
            writer.write(b"x" * 100)
            assert await reader.readexactly(100) == b"x" * 100
            await until(lambda: door.connections == 1)
            assert len(described) == 1
            writer.close()
            await until(lambda: door.connections == 0)
            turns.leave(user)

    run(test())


def test_connection_when_its_caller_takes_long_to_describe_then_its_user_pays(reachable_dir: Path) -> None:
    def describe(identity: Identity) -> Identity:
        end_s = time.thread_time() + 0.005
        while time.thread_time() < end_s:
            pass
        return identity

    async def test() -> None:
        turns = Turns()
        async with (
            relay_door(reachable_dir, describe=describe, turns=turns) as (door, _, runtime),
            inner_server(runtime, echo),
        ):
            user = turns.join(os.geteuid(), Identity(os.geteuid(), 0, 0).payer)
            _, writer = await connect(reachable_dir)
            await until(lambda: user.spent_s >= 0.005)
            assert door.connections == 1
            writer.close()
            await until(lambda: door.connections == 0)
            turns.leave(user)

    run(test())


def test_test_when_it_fails_with_a_connection_then_that_is_closed(reachable_dir: Path) -> None:
    """Or the next test finds a socket that nobody closed, and fails as well."""

    async def test() -> None:
        async with relay_door(reachable_dir) as (_, _, runtime), inner_server(runtime, echo):
            await connect(reachable_dir)
            raise LookupError

    with pytest.raises(LookupError):
        run(test())
    gc.collect()
