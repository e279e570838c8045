"""Clients that the handoff door does not serve: beyond a limit, nobody's, or come at its end.

Tests: ktaskd/door/handoff/door.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ktask.v1 import handoff
from ktask.v1.handoff import Hand, Refused

from ktaskd.door.callers.reception import Reception
from tests.door.door_with_keepers import UID, as_uid, door_with_keepers, run, until


def test_caps_are_told_and_counted(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir, handles_per_uid=3, per_uid=2) as it:
            clients = [await it.client() for _ in range(2)]
            assert await clients[0].handles(fd, fd)
            reply = await clients[1].hand(fd, fd)
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason, reply.index) == (7, "QUOTA_FULL", -1)
            assert len(it.handles) == 2
            assert await clients[1].handles(fd)
            extra = await it.client()
            extra.send(handoff.encode_request(Hand(1, (0,))), [fd])
            reply = await extra.receive()
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason) == (0, "QUOTA_FULL")
            assert await extra.receive() is None
            assert (it.door.refused, it.door.connections) == (1, 2)
            for client in (*clients, extra):
                client.close()

    run(test())


def test_whoever_is_refused_before_it_has_sent_anything_can_send_and_is_told_why(
    reachable_dir: Path, fd: int
) -> None:
    """A client that connects, sends and then reads: it must not fail at sending."""

    async def test() -> None:
        async with door_with_keepers(reachable_dir, per_uid=1) as it:
            first = await it.client()
            await until(lambda: it.door.connections == 1)
            late = await it.client()
            await until(lambda: it.door.refused == 1)
            reply = await late.hand(fd)
            assert isinstance(reply, Refused)
            assert (reply.reason, reply.number) == ("QUOTA_FULL", 0)
            assert "has reached its limit of 1" in reply.message
            for client in (first, late):
                client.close()
            await until(lambda: it.door.connections == 0)

    run(test())


def test_nobody_is_told_so(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir, reception=Reception(nobody=UID)) as it:
            client = await it.client()
            reply = await client.hand(fd)
            assert isinstance(reply, Refused)
            assert "stands for every user" in reply.message
            assert it.door.connections == 0
            client.close()

    run(test())


def test_many_that_are_refused_are_all_told_and_closed(reachable_dir: Path) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir, per_uid=1) as it:
            first = await it.client()
            await until(lambda: it.door.connections == 1)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                extra = [await it.client() for _ in range(100)]
                for client in extra:
                    reply = await client.receive()
                    assert isinstance(reply, Refused)
                    assert reply.reason == "QUOTA_FULL"
                    assert await client.receive() is None
                    client.close()
            await until(lambda: len(os.listdir("/proc/self/fd")) == before)
            first.close()

    run(test())


def test_connections_that_wait_for_their_turn_are_told_when_it_closes(reachable_dir: Path) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            clients = [await it.client() for _ in range(40)]
            await until(lambda: it.door.connections == 40)
            (account,) = it.door._turns._accounts.values()
            assert account.waiting, "some wait"
        for client in clients:
            reply = await client.receive()
            assert reply is None or (isinstance(reply, Refused) and reply.reason == "DRAINING")
            client.close()

    run(test())


def test_a_total_cap_holds_over_uids(reachable_dir: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir, total=2) as it:
            clients = [await it.client() for _ in range(2)]
            await until(lambda: it.door.connections == 2)
            as_uid(monkeypatch, UID + 1)
            extra = await it.client()
            reply = await extra.receive()
            assert isinstance(reply, Refused)
            assert reply.reason == "QUOTA_FULL"
            for client in (*clients, extra):
                client.close()

    run(test())
