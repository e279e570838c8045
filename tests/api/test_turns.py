"""Handlers wait for their turns, and answers that do not leave are counted.

Tests: ktaskd/api/guard.py
Guards: I12
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from ktaskd.api.guard import Guard
from ktaskd.door.admission.budget import Budget, Purse
from ktaskd.door.admission.meter import Meter
from ktaskd.door.admission.turns import Turns
from tests.api.guarded import WHO, FakeContext, identify, run


def fake() -> Any:
    return FakeContext()


class Machine:
    """A guard whose turns a test can see, and a handler of many steps."""

    def __init__(self, **options: Any) -> None:
        self.turns = Turns(time.monotonic)
        self.user = self.turns.join(WHO.uid, WHO.payer)
        self.guard = Guard(identify, turns=self.turns, **options)
        self.steps = 0

    async def many_steps(self, request: str, context: Any) -> bytes:
        while self.steps < 100:
            self.steps += 1
            # As if the step had taken this long.
            self.user.charge(0.001)
            await asyncio.sleep(0)
        return b"x" * 1000


def test_handler_when_its_steps_cost_much_then_it_waits_for_its_turns_and_others_do_not() -> None:
    async def test() -> None:
        machine = Machine()
        other = machine.turns.join(8)
        call = asyncio.ensure_future(machine.guard._unary(machine.many_steps)("x", fake()))
        while not len(machine.user):
            await asyncio.sleep(0)
        assert machine.steps <= 20, "more than a user may use at once"
        assert other.take_turn()
        while machine.steps < 100:
            await asyncio.sleep(0.001)
        await call

    assert run(test()) == []


def test_handler_when_it_is_cut_while_it_waits_for_its_turn_then_cleans_up_at_once() -> None:
    async def test() -> None:
        machine, ended = Machine(), []

        async def handle(request: str, context: Any) -> None:
            try:
                await machine.many_steps(request, context)
            finally:
                ended.append(machine.steps)

        machine.user.charge(1.0)
        call = asyncio.ensure_future(machine.guard._unary(handle)("x", fake()))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert (call.cancelled(), ended, len(machine.user)) == (True, [], 0), "it had not begun"
        machine.user.account.pace = Meter()
        call = asyncio.ensure_future(machine.guard._unary(handle)("x", fake()))
        while not len(machine.user):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert (call.cancelled(), ended, len(machine.user)) == (True, [machine.steps], 0)
        assert not machine.turns.waiting

    assert run(test()) == []


def test_answer_when_it_does_not_leave_then_counted_and_cut() -> None:
    async def test() -> None:
        machine = Machine(stall_s=0.01)
        machine.steps = 100

        async def as_grpc_does() -> None:
            await machine.guard._unary(machine.many_steps)("x", fake())
            assert machine.user.answers.held == 1000
            await asyncio.Event().wait()  # until the client takes it

        call = asyncio.ensure_future(as_grpc_does())
        await asyncio.wait([call])
        assert call.cancelled()
        await asyncio.sleep(0)
        assert machine.user.answers.held == 0

    assert run(test()) == []


def test_answers_when_many_are_not_read_then_no_more_are_made_and_others_are() -> None:
    async def test() -> None:
        machine, made = Machine(), 0
        machine.turns.answers = Budget(free=1000, account=5000, total=100_000)
        machine.user.answers = Purse(machine.turns.answers, WHO.payer)
        handler = machine.guard._unary(machine.many_steps)
        machine.steps = 100

        async def as_grpc_does() -> None:
            nonlocal made
            await handler("x", fake())
            made += 1
            await asyncio.Event().wait()

        calls = [asyncio.ensure_future(as_grpc_does()) for _ in range(20)]
        while made < 6:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert made == 6, "as many as the account may have, and one"
        calls[0].cancel()
        calls[1].cancel()
        while made < 7:
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await asyncio.sleep(0)
        assert (machine.user.answers.held, machine.turns.answers.waiting) == (0, {})

    assert run(test()) == []


def test_stream_when_it_always_has_a_message_then_it_waits_for_its_turns() -> None:
    """A message is sent without a turn; making the next one needs a turn."""

    async def test() -> None:
        machine, made = Machine(), 0

        class Context(FakeContext):
            async def on_write(self) -> None:
                await asyncio.sleep(0)

        async def handle(request: str, context: Any) -> AsyncIterator[bytes]:
            nonlocal made
            while made < 100:
                made += 1
                machine.user.charge(0.001)
                yield b"x"

        context: Any = Context()
        call = asyncio.ensure_future(machine.guard._stream(handle)("x", context))  # type: ignore[arg-type]
        while not len(machine.user) and not call.done():
            await asyncio.sleep(0)
        assert made <= 20, "more than a user may use at once"
        call.cancel()
        await asyncio.wait([call])

    assert run(test()) == []
