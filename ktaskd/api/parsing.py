"""Turns bytes into requests and responses into bytes, for the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from ktask.v1 import jobs_pb2 as pb

from ktaskd.api.pieces import check_small, parse_spec_request
from ktaskd.door.admission.patience import Patience
from ktaskd.model.errors import SpecInvalid

Handler = Any  # grpc.RpcMethodHandler: its fields are untyped in grpc's own stubs
Context = grpc.aio.ServicerContext[Any, Any]

_WITH_SPEC = (pb.RunRequest, pb.SubmitRequest)


def size_of(message: Any) -> int:
    """Return the size in bytes; 0 for an object that was never serialized."""
    return len(message) if isinstance(message, bytes) else 0


@dataclass(frozen=True, slots=True)
class Codec:
    """Parses the request, or the stream of requests, of a method and serializes its responses.

    grpc itself would answer UNKNOWN to bytes that are no message, and log two
    tracebacks, as often as a caller likes.

    Args:
        stall_s: a stream of requests ends when none arrives for this long; 0 = never.
        taken: called with context.peer() and the bytes when a request was parsed.
    """

    reader: Callable[[bytes], Any] | None = None
    writer: Callable[[Any], bytes] | None = None
    streams: bool = False
    stall_s: float = 0.0
    taken: Callable[[str, int], None] = lambda _, __: None

    @classmethod
    def of(cls, handler: Handler, stall_s: float, taken: Callable[[str, int], None]) -> Codec:
        """Make the codec of a handler."""
        reader, writer = handler.request_deserializer, handler.response_serializer
        return cls(reader, writer, handler.request_streaming, stall_s, taken)

    async def parse(self, raw: Any, context: Context) -> Any:
        """Return the request, or an iterator of requests."""
        if self.streams:
            return self._each(context)
        request = await self._one(raw)
        self.taken(context.peer(), size_of(raw))
        return request

    def write(self, response: Any) -> Any:
        """Return the bytes of a response."""
        return self.writer(response) if self.writer else response

    async def _one(self, raw: bytes) -> Any:
        reader = self.reader
        if reader is None:
            return raw
        make = getattr(reader, "__self__", None)
        try:
            if make in _WITH_SPEC:
                return await parse_spec_request(make, raw)
            check_small(raw)
            return reader(raw)
        except DecodeError as error:
            raise SpecInvalid(
                f"request: got {len(raw)} bytes that are no message of the contract ({error})"
            ) from error

    async def _each(self, context: Context) -> AsyncIterator[Any]:
        while True:
            try:
                async with Patience(self.stall_s):
                    raw = await context.read()
            except TimeoutError:
                return
            if raw is grpc.aio.EOF:
                return
            yield await self._one(raw)
