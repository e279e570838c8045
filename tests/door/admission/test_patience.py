"""Limits that count only time in which the loop runs: a daemon that was stopped ends no connection."""

from __future__ import annotations

import asyncio

import pytest

from ktaskd.door.admission.patience import PARTS, Alarm, Patience
from tests.door.virtual import VirtualLoop, run


def pause(seconds: float) -> None:
    """Act as if the daemon had been stopped for `seconds`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._virtual.waited_s += seconds


def test_alarm_when_nothing_pauses_then_rings_once_at_its_time() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        rung: list[float] = []
        begin_s = loop.time()
        Alarm(8.0, lambda: rung.append(loop.time() - begin_s))
        Alarm(8.0, lambda: rung.append(0.0)).cancel()
        await asyncio.sleep(100)
        assert rung == [pytest.approx(8.0)]

    run(test())


def test_alarm_when_the_daemon_pauses_for_longer_than_the_limit_then_clients_have_time_left() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        rung: list[float] = []
        Alarm(8.0, lambda: rung.append(loop.time()))
        pause(1000.0)
        went_on_s = loop.time()
        await asyncio.sleep(100)
        assert rung == [pytest.approx(went_on_s + 8.0 * (PARTS - 1) / PARTS)]

    run(test())


def test_patience_when_the_daemon_pauses_then_what_came_meanwhile_is_in_time() -> None:
    async def test() -> None:
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.0, came.set_result, None)
        pause(1000.0)
        async with Patience(4.0):
            pause(1000.0)
            await came

    run(test())


def test_patience_when_its_block_takes_too_long_then_timeout() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        with pytest.raises(TimeoutError):
            async with Patience(4.0):
                await asyncio.Event().wait()
        assert loop.time() - begin_s == pytest.approx(4.0)
        async with Patience(0):
            await asyncio.sleep(1000)

    run(test())
