"""The guard around handlers: errors leave as refusals, and handlers that it ends clean up.

Guards: I12
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from ktaskd.api.errors import abort
from ktaskd.api.guard import Guard, caller
from ktaskd.door.admission.shares import Shares
from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity
from tests.api.guarded import WHO, FakeContext, guarded, identify, run


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


def test_handler_when_called_again_then_wrapped_once_and_another_one_by_itself() -> None:
    guard = Guard(identify)
    handlers: list[Any] = [grpc.unary_unary_rpc_method_handler(lambda _, __: None) for _ in range(2)]

    def wrapped(handler: Any) -> Any:
        async def continuation(_: Any) -> Any:
            return handler

        return asyncio.run(guard.intercept_service(continuation, None))  # type: ignore[arg-type]

    first, second = map(wrapped, handlers)
    assert wrapped(handlers[0]) is first is not second
    assert wrapped(handlers[1]) is second
    assert wrapped(None) is None
