"""The guard around handlers: errors leave as refusals, and what is cut cleans up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import pytest

from ktaskd.api.errors import abort
from ktaskd.api.guard import Guard, caller
from ktaskd.model.errors import IdentityMissing, QuotaFull
from ktaskd.model.identity import Identity

WHO = Identity(7, 8, 9)


class FakeContext:
    """What of a call's context is used here; abort raises, as the real one does."""

    def __init__(self) -> None:
        self.code: object = None
        self.text = ""
        self.trailing: Any = ()

    def peer(self) -> str:
        return "unix-abstract:x"

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = metadata

    async def abort(self, code: object, text: str) -> None:
        self.code, self.text = code, text
        raise grpc.aio.AbortError


def identify(name: str) -> Identity:
    assert name == "unix-abstract:x"
    return WHO


def guarded(handler: Any, who: Any = identify) -> Any:
    """The handler as the server gets it."""

    async def continuation(_: Any) -> Any:
        return handler

    return asyncio.run(Guard(who).intercept_service(continuation, None))  # type: ignore[arg-type]


def run(test: Coroutine[Any, Any, None]) -> list[BaseException]:
    """Run a test; what the loop's exception handler was told."""
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
        assert await handler.unary_unary("x", FakeContext()) == ("x", WHO)

    handler = guarded(grpc.unary_unary_rpc_method_handler(handle))
    assert run(test()) == []


@pytest.mark.parametrize("bug", [AssertionError("secret"), KeyError("secret")])
def test_unary_when_it_is_our_bug_then_the_loop_is_told_and_the_caller_learns_no_more(bug: Exception) -> None:
    async def handle(request: str, context: Any) -> Any:
        raise bug

    context = FakeContext()

    async def test() -> None:
        with pytest.raises(grpc.aio.AbortError):
            await handler.unary_unary("x", context)

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

    async def test() -> None:
        stream = handler.unary_stream("x", FakeContext())
        assert await anext(stream) == 1
        await stream.aclose()
        assert ended == [WHO]

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
        answer = getattr(handler, kind)("x", context)
        with pytest.raises(grpc.aio.AbortError):
            await (anext(answer) if kind.endswith("stream") else answer)

    handler = guarded(getattr(grpc, f"{kind}_rpc_method_handler")(handle), nobody)
    assert run(test()) == []
    assert context.code is grpc.StatusCode.UNAUTHENTICATED


def test_abort_when_refused_then_code_text_and_details() -> None:
    context: Any = FakeContext()

    async def test() -> None:
        with pytest.raises(grpc.aio.AbortError):
            await abort(context, QuotaFull("too many"))

    assert run(test()) == []
    assert (context.code, context.text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
    assert [key for key, _ in context.trailing] == ["grpc-status-details-bin"]
