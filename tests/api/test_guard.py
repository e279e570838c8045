"""The guard around handlers: errors leave as refusals, and handlers that it ends clean up.

Guards: I12
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import pytest

from ktaskd.api.errors import abort
from ktaskd.api.guard import Guard, caller
from ktaskd.door.admission.budget import Budget, Purse
from ktaskd.door.admission.meter import Meter
from ktaskd.door.admission.shares import Shares
from ktaskd.door.admission.turns import Turns
from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity

WHO = Identity(7, 8, 9)


class FakeContext:
    """The part of a call's context that the guard uses; abort raises, as the real one does."""

    def __init__(self) -> None:
        self.code: object = None
        self.text = ""
        self.trailing: Any = ()
        self.written: list[object] = []
        self.requests: list[object] = ["x"]

    async def read(self) -> object:
        return self.requests.pop() if self.requests else grpc.aio.EOF

    def peer(self) -> str:
        return "unix-abstract:x"

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = metadata

    async def write(self, message: object) -> None:
        self.written.append(message)
        await self.on_write()

    async def on_write(self) -> None:
        """Sent at once."""

    async def abort(self, code: object, text: str) -> None:
        self.code, self.text = code, text
        raise grpc.aio.AbortError


def identify(name: str) -> Identity:
    assert name == "unix-abstract:x"
    return WHO


def guarded(handler: Any, who: Any = identify, **options: Any) -> Any:
    """Return the handler as the server gets it."""

    async def continuation(_: Any) -> Any:
        return handler

    return asyncio.run(Guard(who, **options).intercept_service(continuation, None))  # type: ignore[arg-type]


def run(test: Coroutine[Any, Any, None]) -> list[BaseException]:
    """Run a test; return the exceptions that reached the loop's handler."""
    told: list[BaseException] = []

    async def with_handler() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        await test

    asyncio.run(with_handler())
    return told


def test_guard_when_there_is_no_such_method_then_none() -> None:
    assert guarded(None) is None


def test_unary_when_called_then_the_caller_is_known() -> None:
    async def handle(request: str, context: Any) -> Any:
        return request, caller()

    async def test() -> None:
        assert await handler.stream_unary(None, FakeContext()) == ("x", WHO)

    handler = guarded(grpc.unary_unary_rpc_method_handler(handle))
    assert run(test()) == []


@pytest.mark.parametrize("bug", [AssertionError("secret"), KeyError("secret")])
def test_unary_when_it_is_our_bug_then_the_loop_is_told_and_the_caller_learns_no_more(bug: Exception) -> None:
    async def handle(request: str, context: Any) -> Any:
        raise bug

    context = FakeContext()

    async def test() -> None:
        with pytest.raises(grpc.aio.AbortError):
            await handler.stream_unary(None, context)

    handler = guarded(grpc.unary_unary_rpc_method_handler(handle))
    assert run(test()) == [bug]
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in f"{context.text}{context.trailing}"


def test_stream_when_it_is_cut_then_the_handler_has_cleaned_up_at_once() -> None:
    ended = []

    async def handle(request: str, context: Any) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append(caller())

    async def never() -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        context = FakeContext()
        context.on_write = never  # type: ignore[method-assign]
        call = asyncio.ensure_future(handler.stream_stream(None, context))
        while not context.written:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert (call.cancelled(), context.written, ended) == (True, [1], [WHO])

    handler = guarded(grpc.unary_stream_rpc_method_handler(handle))
    assert run(test()) == []


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_handler_when_the_caller_is_nobody_then_not_entered(kind: str) -> None:
    def nobody(name: str) -> Identity:
        raise IdentityMissing("nobody")

    def handle(request: Any, context: Any) -> Any:
        raise NotImplementedError

    context = FakeContext()

    async def test() -> None:
        answer = getattr(handler, kind.replace("unary_", "stream_", 1))(None, context)
        with pytest.raises(grpc.aio.AbortError):
            await answer

    handler = guarded(getattr(grpc, f"{kind}_rpc_method_handler")(handle), nobody)
    assert run(test()) == []
    assert context.code is grpc.StatusCode.UNAUTHENTICATED


def test_stream_when_it_is_not_read_then_cut_with_a_status() -> None:
    context = FakeContext()
    ended = []

    async def handle(request: str, context: Any) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append(True)

    async def never() -> None:
        if len(context.written) == 2:
            await asyncio.Event().wait()

    async def test() -> None:
        context.on_write = never  # type: ignore[method-assign]
        with pytest.raises(grpc.aio.AbortError):
            await handler.stream_stream(None, context)

    handler = guarded(grpc.unary_stream_rpc_method_handler(handle), stall_s=0.01)
    assert run(test()) == []
    assert (context.code, context.written, ended) == (grpc.StatusCode.RESOURCE_EXHAUSTED, [1, 2], [True])
    assert "a message could not be sent for 0.01 s" in context.text


def test_calls_when_a_uid_has_too_many_then_refused_until_one_is_answered() -> None:
    async def test() -> None:
        answer = asyncio.Event()

        async def handle(request: str, context: Any) -> None:
            await answer.wait()

        shares = Shares("calls", total=4, per_uid=2)
        guard = Guard(lambda peer: Identity(int(peer), 1, 1), shares=shares)
        call = guard._unary(handle)

        def context(uid: int) -> Any:
            made = FakeContext()
            made.peer = lambda: str(uid)  # type: ignore[method-assign]
            return made

        running = [asyncio.ensure_future(call("x", context(uid))) for uid in (7, 7, 8)]
        await asyncio.sleep(0)
        refused = context(7)
        with pytest.raises(grpc.aio.AbortError):
            await call("x", refused)
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.text == "calls: uid 7 has reached its limit of 2; end some first"
        answer.set()
        await asyncio.gather(*running)
        await call("x", context(7))
        assert not len(shares)

    assert run(test()) == []


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


def test_stream_of_requests_when_nothing_comes_then_over() -> None:
    class Context(FakeContext):
        async def read(self) -> object:
            if not self.requests:
                await asyncio.Event().wait()
            return self.requests.pop()

    async def handle(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    context = Context()
    context.requests = [b"one"]
    handler = guarded(grpc.stream_stream_rpc_method_handler(handle), stall_s=0.01)
    assert run(handler.stream_stream(None, context)) == []
    assert context.written == [b"one"]


def test_stream_when_the_client_is_gone_before_its_end_is_seen_then_no_bug() -> None:
    context = FakeContext()

    async def handle(request: str, context: Any) -> AsyncIterator[bytes]:
        yield b"one"

    async def fail() -> None:
        raise grpc.aio.InternalError("Failed execute_batch")

    async def test() -> None:
        context.on_write = fail  # type: ignore[method-assign]
        with pytest.raises(grpc.aio.AbortError):
            await handler.stream_stream(None, context)

    handler = guarded(grpc.unary_stream_rpc_method_handler(handle))
    assert run(test()) == []
    assert context.code is None


def test_abort_when_there_are_no_descriptors_then_told_and_no_bug() -> None:
    context: Any = FakeContext()

    async def test() -> None:
        with pytest.raises(grpc.aio.AbortError):
            await abort(context, OSError(errno.EMFILE, "Too many open files"))

    assert run(test()) == []
    assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_abort_when_refused_then_code_text_and_details() -> None:
    context: Any = FakeContext()

    async def test() -> None:
        with pytest.raises(grpc.aio.AbortError):
            await abort(context, QuotaFull("too many"))

    assert run(test()) == []
    assert (context.code, context.text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
    assert [key for key, _ in context.trailing] == ["grpc-status-details-bin"]


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
