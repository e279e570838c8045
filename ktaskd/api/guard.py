"""A wrapper around every handler: who calls, and how errors leave.

An interceptor sees no peer, so it wraps the handler, which does. A call whose
peer has no live name did not come through the public socket and is refused,
whatever it asks for: reflection and health are no exception.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from ktaskd.api.errors import abort
from ktaskd.model.errors import QuotaFull, SpecInvalid, WatchTooSlow
from ktaskd.model.identity import Identity

LEAVE_S = 0.1
"""Time for the status of a stream that is not read to leave at once."""

_CALLER: ContextVar[Identity] = ContextVar("caller")

Handler = Any  # grpc.RpcMethodHandler: its fields are untyped in grpc's own stubs
Context = grpc.aio.ServicerContext[Any, Any]


def caller() -> Identity:
    """Who made the call that is being handled."""
    return _CALLER.get()


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        identify: turns context.peer() into an identity, or raises.
        stall_s: a stream whose message cannot be sent for so long is cut; 0 = never.
        calls_per_uid: most calls of one uid at one time.
    """

    def __init__(
        self, identify: Callable[[str], Identity], *, stall_s: float = 0.0, calls_per_uid: int = 4096
    ) -> None:
        """Nobody calls yet."""
        self._identify = identify
        self._stall_s = stall_s
        self._calls_per_uid = calls_per_uid
        self._calls: Counter[int] = Counter()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler with the guard around it; None stays None (no such method)."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        parse = _parser_of(handler)
        if handler.response_streaming:
            wrapped = self._stream(handler.stream_stream or handler.unary_stream, parse)
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            wrapped = self._unary(handler.stream_unary or handler.unary_unary, parse)
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        # Without a deserializer grpc hands the bytes over as they came.
        return make(wrapped, None, handler.response_serializer)

    def _unary(
        self, inner: Callable[[Any, Context], Awaitable[Any]], parse: Callable[[Any], Any] = lambda raw: raw
    ) -> Callable[[Any, Context], Any]:
        async def guarded(raw: Any, context: Context) -> Any:
            try:
                with self._admitted(context):
                    return await inner(parse(raw), context)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                await abort(context, error)

        return guarded

    def _stream(
        self,
        inner: Callable[[Any, Context], AsyncGenerator[Any]],
        parse: Callable[[Any], Any] = lambda raw: raw,
    ) -> Callable[[Any, Context], Any]:
        async def guarded(raw: Any, context: Context) -> None:
            try:
                with self._admitted(context):
                    # Closed here: a handler that is cut must clean up now, not when
                    # the garbage collector comes by.
                    async with aclosing(inner(parse(raw), context)) as responses:
                        async for response in responses:
                            await self._send(context, response)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except WatchTooSlow as error:
                await _leave_behind(context, error)
            except Exception as error:
                await abort(context, error)

        return guarded

    @contextmanager
    def _admitted(self, context: Context) -> Iterator[None]:
        """The time of one call, counted against its caller."""
        who = self._identify(context.peer())
        if self._calls[who.uid] >= self._calls_per_uid:
            raise QuotaFull(
                f"calls: uid {who.uid} has {self._calls[who.uid]} that are not answered,"
                f" wanted less than {self._calls_per_uid}"
            )
        _CALLER.set(who)
        self._calls[who.uid] += 1
        try:
            yield
        finally:
            self._calls[who.uid] -= 1
            if not self._calls[who.uid]:
                del self._calls[who.uid]

    async def _send(self, context: Context, response: Any) -> None:
        """Send one message of a stream; the next one is made when it is on its way."""
        try:
            async with asyncio.timeout(self._stall_s or None):
                await context.write(response)
        except TimeoutError as error:
            raise WatchTooSlow(
                f"stream: a message could not be sent for {self._stall_s:g} s, wanted a reader that keeps up;"
                " a watch can be taken up again with after_sequence"
            ) from error


def _parser_of(handler: Handler) -> Callable[[Any], Any]:
    """What makes requests of bytes, or of a stream of bytes.

    grpc itself would answer UNKNOWN to bytes that are no message, and write two
    stories into the log, as often as a caller likes.
    """

    def one(raw: bytes) -> Any:
        try:
            return handler.request_deserializer(raw) if handler.request_deserializer else raw
        except DecodeError as error:
            raise SpecInvalid(
                f"request: got {len(raw)} bytes that are no message ({error}), wanted one of the contract"
            ) from error

    async def each(raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in raws:
            yield one(raw)

    return each if handler.request_streaming else one


async def _leave_behind(context: Context, error: WatchTooSlow) -> NoReturn:
    """End a stream that nobody reads; the status waits behind what was sent before it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_S):
            await abort(context, error)
    raise grpc.aio.AbortError
