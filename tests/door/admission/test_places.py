"""Large requests come in a few at a time, and none waits forever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.api.guard import Guard
from ktaskd.api.server import OPTIONS
from ktaskd.door.admission.budget import Budget, Purse
from ktaskd.door.admission.places import Places
from ktaskd.door.admission.turns import Turns
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.relay.calls import Calls
from ktaskd.door.relay.door import PLACES_ACCOUNT, REQUESTS_ACCOUNT, RelayDoor
from ktaskd.door.sockets.listener import RuntimeDir
from ktaskd.model.identity import Identity
from ktaskd.model.limits import MESSAGE_BYTES_MAX
from tests.door.relay.real_relay import relay_door, run
from tests.door.virtual import run as run_virtual

BODY = bytes(MESSAGE_BYTES_MAX - 1000)


class Sizes(grpc.GenericRpcHandler):
    """A service that returns the size of a request."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        async def handle(request: bytes, context: Any) -> bytes:
            return str(len(request)).encode()

        return grpc.unary_unary_rpc_method_handler(handle)


@asynccontextmanager
async def daemon(place: Path) -> AsyncIterator[RelayDoor]:
    """The door, the guard and a server, connected as in the daemon."""
    async with relay_door(place) as (door, peers, runtime), server(runtime, peers, door):
        yield door


@asynccontextmanager
async def server(runtime: RuntimeDir, peers: PeerTable, door: RelayDoor) -> AsyncIterator[None]:
    guard = Guard(peers.identity, turns=door._turns, taken=peers.taken, room=peers.reading)
    made = grpc.aio.server(interceptors=[guard], options=OPTIONS)
    made.add_generic_rpc_handlers((Sizes(),))
    made.add_insecure_port(f"unix:{runtime.inner_path}")
    await made.start()
    try:
        yield
    finally:
        await made.stop(0)


@pytest.mark.parametrize(("channels", "each"), [(1, 20), (20, 1)])
def test_large_requests_when_many_are_sent_at_once_then_all_come_in(
    reachable_dir: Path, channels: int, each: int
) -> None:
    """More bytes than all may hold together, and no request is complete before the others have come far."""

    async def test() -> None:
        async with daemon(reachable_dir) as door, AsyncExitStack() as stack:
            opened = [channel_of(reachable_dir, stack) for _ in range(channels)]
            calls = [call(channel, BODY) for channel in opened for _ in range(each)]
            assert set(await asyncio.gather(*calls)) == {str(len(BODY)).encode()}
            assert door.requests.peak < REQUESTS_ACCOUNT
            assert (len(door._places), door._places.taken) == (0, 0)

    run(test())


@pytest.mark.slow
def test_request_when_it_has_no_place_then_its_client_sends_next_to_nothing(reachable_dir: Path) -> None:
    async def test() -> None:
        async with daemon(reachable_dir) as door, AsyncExitStack() as stack:
            for _ in range(PLACES_ACCOUNT):
                me = Identity(os.geteuid(), 0, 0)
                came = asyncio.get_running_loop().create_future()
                await stack.enter_async_context(door._places.place(me.payer, me.uid, came))
            large = call(channel_of(reachable_dir, stack), BODY)
            while not len(door._places):
                await asyncio.sleep(0.001)
            (relay,) = door._relays.values()
            assert relay.calls.oldest_unfinished_s() is None, "it is not waited for"
            small = await call(channel_of(reachable_dir, stack), b"x" * 1000)
            assert small == b"1000", "a request that is there needs no place"
            assert door.requests.total < MESSAGE_BYTES_MAX // 8
            large.cancel()
            while door.requests.total:
                await asyncio.sleep(0.001)
            assert len(door._places) == 0

    run(test())


def test_small_request_when_its_handler_begins_before_its_end_then_needs_no_place() -> None:
    """Requests that have all places of the account may keep them for a minute."""

    async def test() -> None:
        places = Places(account=1, total=1)
        user = Turns().join(1, 7)
        budget = Budget(free=0, account=1 << 20, total=1 << 20)
        large, small = (Calls(user, Purse(budget, 7)) for _ in range(2))
        for calls in (large, small):
            calls.begin(1, lambda: None)
        first, second = large.reading(places), small.reading(places)
        assert first is not None
        assert second is not None
        async with first, asyncio.timeout(1.0):
            entered = asyncio.ensure_future(second.__aenter__())
            await asyncio.sleep(0.1)
            assert (entered.done(), small.oldest_unfinished_s()) == (False, None)
            small.sent_all(1)
            await entered
            assert (large.placed, small.placed, places.taken) == (1, 0, 1)
            await second.__aexit__(None, None, None)
        assert places.taken == 0
        for calls in (large, small):
            calls.end_all()

    run_virtual(test())


def test_places_when_one_uid_has_asked_for_many_then_another_of_the_account_is_next() -> None:
    async def test() -> None:
        places, order = Places(account=2, total=2), list[int]()

        async def one(uid: int) -> None:
            async with places.place(7, uid, asyncio.get_running_loop().create_future()):
                order.append(uid)
                await asyncio.sleep(len(order))

        await asyncio.wait([asyncio.ensure_future(one(uid)) for uid in (1, 1, 1, 1, 2)])
        assert order.index(2) == 2, "beside a place that the other has"

    run_virtual(test())


def channel_of(place: Path, stack: AsyncExitStack) -> grpc.aio.Channel:
    options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.aio.insecure_channel(f"unix:{place}/ktaskd.sock", options)
    stack.push_async_callback(channel.close)
    return channel


def call(channel: grpc.aio.Channel, request: bytes) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/any/Method")
    return method(request)


STEP = st.tuples(st.sampled_from(["ask", "leave", "cancel"]), st.integers(0, 3))


@given(st.lists(STEP, max_size=60))
def test_places_when_anything_happens_then_none_is_lost_and_each_account_has_one(
    steps: list[tuple[str, int]],
) -> None:
    async def test() -> None:
        places, inside = Places(account=2, total=4), [0] * 4
        ends: list[list[asyncio.Event]] = [[] for _ in inside]
        asked: list[list[asyncio.Task[None]]] = [[] for _ in inside]

        async def one(account: int) -> None:
            came = asyncio.get_running_loop().create_future()
            async with places.place(account, account, came):
                inside[account] += 1
                end = asyncio.Event()
                ends[account].append(end)
                try:
                    await end.wait()
                finally:
                    inside[account] -= 1

        for step, account in steps:
            if step == "ask":
                asked[account].append(asyncio.ensure_future(one(account)))
            elif step == "leave" and ends[account]:
                ends[account].pop(0).set()
            elif step == "cancel" and asked[account]:
                asked[account].pop(0).cancel()
            await asyncio.sleep(0.001)
            assert sum(inside) == places.taken
            assert max(inside) <= 2
            assert sum(inside) <= 4 + 3, "one each, and no more than the rest of the places beside that"
            for number, queue in places._queues.items():
                assert inside[number] >= bool(queue.waiting)
        for task in [task for tasks in asked for task in tasks]:
            task.cancel()
            await asyncio.wait([task])
        assert (places.taken, places._queues) == (0, {})

    run_virtual(test())
