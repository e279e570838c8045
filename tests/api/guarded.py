"""Handlers behind the guard, with a context that takes the place of gRPC's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc

from ktaskd.api.guard import Guard
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
