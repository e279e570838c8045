"""A wrapper around every handler: who calls, and how errors leave.

An interceptor sees no peer, so it wraps the handler, which does. A call whose
peer has no live name did not come through the public socket and is refused,
whatever it asks for: reflection and health are no exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import grpc

from ktaskd.api.errors import abort
from ktaskd.model.identity import Identity

_CALLER: ContextVar[Identity] = ContextVar("caller")

Handler = Any  # grpc.RpcMethodHandler: its fields are untyped in grpc's own stubs
Context = grpc.aio.ServicerContext[Any, Any]


def caller() -> Identity:
    """Who made the call that is being handled."""
    return _CALLER.get()


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server."""

    def __init__(self, identify: Callable[[str], Identity]) -> None:
        """`identify` turns context.peer() into an identity, or raises."""
        self._identify = identify

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler with the guard around it; None stays None (no such method)."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.response_streaming:
            wrapped = self._stream(handler.stream_stream or handler.unary_stream)
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            wrapped = self._unary(handler.stream_unary or handler.unary_unary)
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _unary(self, inner: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Any]:
        async def guarded(request: Any, context: Context) -> Any:
            try:
                _CALLER.set(self._identify(context.peer()))
                return await inner(request, context)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                await abort(context, error)

        return guarded

    def _stream(self, inner: Callable[[Any, Context], AsyncGenerator[Any]]) -> Callable[[Any, Context], Any]:
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                _CALLER.set(self._identify(context.peer()))
                # Closed here: a handler that is cut must clean up now, not when
                # the garbage collector comes by.
                async with aclosing(inner(request, context)) as responses:
                    async for response in responses:
                        yield response
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                await abort(context, error)

        return guarded
