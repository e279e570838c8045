"""Wraps every handler: identifies the caller, limits its use, and turns errors into statuses.

An interceptor sees no peer, so it wraps the handler, which does. A call whose
peer has no live name did not come through the public socket and is refused,
even a call of reflection or health.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any, NoReturn, cast

import grpc

from ktaskd.api.errors import abort
from ktaskd.api.pacing import Pace, Paced
from ktaskd.api.parsing import Codec, Handler, size_of
from ktaskd.api.parsing import Context as Context
from ktaskd.door.admission.patience import Alarm, Patience
from ktaskd.door.admission.shares import Shares
from ktaskd.door.admission.turns import Turns, User
from ktaskd.model.errors import SpecInvalid, WatchTooSlow
from ktaskd.model.identity import Identity

LEAVE_S = 0.1
"""Longest wait until the status of a stream that nobody reads is sent."""

REQUEST_MAX = 2
"""A request may take this many times `stall_s`."""

CALLS_PER_UID = 1024
"""Calls of one uid that may run at the same time when nobody sets another limit."""

MESSAGE_COST_S = 0.0002
"""Cost to gRPC of one message of a stream. Measured."""

_CALLER: ContextVar[Identity] = ContextVar("caller")


def caller() -> Identity:
    """Return the caller of the call that is being handled."""
    return _CALLER.get()


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        identify: turns context.peer() into an identity, or raises.
        stall_s: the guard ends a call whose answer cannot be sent for this long, and a stream of
            requests when none arrives for this long; 0 = never.
        shares: counts the calls that run; more than it allows are refused.
        turns: decides who may use the loop now.
        taken: called with context.peer() and the bytes when a request was parsed.
        room: called with context.peer(); returns a context in which a request is read, or
            None if the whole request is here.
    """

    def __init__(
        self,
        identify: Callable[[str], Identity],
        *,
        stall_s: float = 0.0,
        shares: Shares | None = None,
        turns: Turns | None = None,
        taken: Callable[[str, int], None] = lambda _, __: None,
        room: Callable[[str], AbstractAsyncContextManager[None] | None] = lambda _: nullcontext(),
    ) -> None:
        """Wrap nothing yet."""
        self._room = room
        self._identify = identify
        self._stall_s = stall_s
        if shares is None:  # an empty one is false
            shares = Shares("calls", total=2 * CALLS_PER_UID, per_uid=CALLS_PER_UID)
        self._shares = shares
        self._turns = turns or Turns(time.monotonic)
        self._taken = taken
        self._wrapped: dict[int, tuple[Handler, Handler]] = {}
        """By id: a handler, and the handler with the guard around it."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler with the guard around it; None stays None (no such method)."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        # A method has the same handler each time, and only methods that exist have one.
        known = self._wrapped.get(id(handler))
        if known is None:
            known = self._wrapped[id(handler)] = handler, self._wrap(handler)
        return known[1]

    def _wrap(self, handler: Handler) -> Handler:
        codec = Codec.of(handler, self._stall_s, self._taken)
        if handler.response_streaming:
            wrapped = self._stream(handler.stream_stream or handler.unary_stream, codec)
            make = grpc.stream_stream_rpc_method_handler
        else:
            wrapped = self._unary(handler.stream_unary or handler.unary_unary, codec)
            make = grpc.stream_unary_rpc_method_handler
        if not handler.request_streaming:
            # All handlers are registered as taking streams: grpc would read a single request at once,
            # as many bytes as clients send.
            wrapped = self._reading(wrapped)
        # Without a deserializer and a serializer grpc passes bytes through unchanged, so
        # parsing and serializing are steps of the call.
        return make(wrapped, None, None)

    def _reading(self, guarded: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Any]:
        """Read the single request when there is room for it."""

        async def reading(_: AsyncIterator[bytes], context: Context) -> Any:
            # The iterator is not used, since it leaves a generator behind, and ending that takes the loop
            # longer than the read.
            room = self._room(context.peer())
            if room is None:
                raw = await context.read()
            else:
                async with room:
                    raw = await self._read_in_time(context)
            if raw is grpc.aio.EOF:
                await abort(context, SpecInvalid("request: it did not arrive completely; send it again"))
            return await guarded(raw, context)

        return reading

    async def _read_in_time(self, context: Context) -> Any:
        try:
            async with Patience(REQUEST_MAX * self._stall_s):
                return await context.read()
        except TimeoutError:
            return grpc.aio.EOF

    def _unary(
        self, inner: Callable[[Any, Context], Awaitable[Any]], codec: Codec | None = None
    ) -> Callable[[Any, Context], Any]:
        codec = codec or Codec()

        async def guarded(raw: Any, context: Context) -> Any:
            async def body() -> Any:
                return codec.write(await inner(await codec.parse(raw, context), context))

            try:
                with self._admitted(context) as user:
                    answer = await Paced(body(), Pace(user))
                self._send_off(user, answer)
                return answer
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                await abort(context, error)

        return guarded

    def _stream(
        self, inner: Callable[[Any, Context], AsyncGenerator[Any]], codec: Codec | None = None
    ) -> Callable[[Any, Context], Any]:
        codec = codec or Codec()

        async def guarded(raw: Any, context: Context) -> None:
            async def body() -> None:
                if inspect.iscoroutinefunction(inner):
                    # Handlers of this kind write their messages themselves.
                    writing = _Writing(context, lambda one: self._send(context, codec.write(one), pace))
                    await inner(await codec.parse(raw, context), cast(Context, writing))
                    return
                # Closed here, since a handler that is ended must clean up now, and not when
                # the garbage collector runs.
                request = await codec.parse(raw, context)
                async with aclosing(inner(request, context)) as responses:
                    async for response in responses:
                        await self._send(context, codec.write(response), pace)

            try:
                with self._admitted(context) as user:
                    pace = Pace(user)
                    await Paced(body(), pace)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except WatchTooSlow as error:
                await _leave_behind(context, error)
            except Exception as error:
                await abort(context, error)

        return guarded

    @contextmanager
    def _admitted(self, context: Context) -> Iterator[User]:
        """Count one call against its caller for the time of the block."""
        who = self._identify(context.peer())
        self._shares.check(who)
        _CALLER.set(who)
        self._shares.add(who)
        try:
            yield self._turns.find(who.uid, who.payer)
        finally:
            self._shares.remove(who)

    async def _send(self, context: Context, response: Any, pace: Pace) -> None:
        """Send one message of a stream. The next one is made when this one has been sent."""
        size, answers = size_of(response), pace.user.answers
        answers.add(size)
        pace.user.charge(MESSAGE_COST_S)
        pace.hurried = True
        try:
            async with Patience(self._stall_s):
                await context.write(response)
        except TimeoutError as error:
            raise WatchTooSlow(
                f"stream: a message could not be sent for {self._stall_s:g} s, since the client did not read;"
                " resume a watch with after_sequence"
            ) from error
        except grpc.aio.InternalError as error:
            # The client is gone, and gRPC has not cancelled this call yet.
            raise grpc.aio.AbortError from error
        finally:
            pace.hurried = False
            answers.drop(size)
        # The next step needs a turn again, which the steps above did without.
        await asyncio.sleep(0)

    def _send_off(self, user: User, answer: Any) -> None:
        """Count an answer until it is sent, when the call's task ends; end a call whose answer is not."""
        size, task = size_of(answer), asyncio.current_task()
        if task is None or not size:
            return
        user.answers.add(size)
        timer = Alarm(self._stall_s, task.cancel) if self._stall_s else None

        def on_done(_: object) -> None:
            user.answers.drop(size)
            if timer is not None:
                timer.cancel()

        task.add_done_callback(on_done)


class _Writing:
    """A call's context that writes through the guard."""

    def __init__(self, context: Context, send: Callable[[Any], Awaitable[None]]) -> None:
        self._context = context
        self._send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        await self._send(message)


async def _leave_behind(context: Context, error: WatchTooSlow) -> NoReturn:
    """End a stream that nobody reads. Its status waits behind the messages sent before."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_S):
            await abort(context, error)
    raise grpc.aio.AbortError
