"""Turns our errors into gRPC statuses. Only this module knows both."""

from __future__ import annotations

import asyncio
import errno
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ktaskd.model.errors import KtaskError, QuotaFull

DOMAIN = "ktask"
"""ErrorInfo.domain of all our errors."""

MESSAGE_BYTES_MAX = 1024
FIELD_BYTES_MAX = 256
_NOTHING_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

METADATA_BYTES_MAX = 128
"""Limit of one value. A refusal as a whole goes into HTTP/2 headers, percent-encoded and as base64. All
clients accept 8 KiB of headers; with more some see only a broken stream."""


def to_status(error: KtaskError) -> Status:
    """Return the google.rpc.Status of an error: ErrorInfo always, BadRequest if a field is wrong.

    Texts that are too long are truncated; those quote the caller.
    """
    message = _cut(error.message, MESSAGE_BYTES_MAX)
    metadata = {key: _cut(value, METADATA_BYTES_MAX) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    status = Status(code=error.code.value, message=message)
    status.details.append(_pack(info))
    if error.field:
        field = _cut(error.field, FIELD_BYTES_MAX)
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        status.details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    return status


def _cut(text: str, bytes_max: int) -> str:
    """Return the text, truncated with dots at the end if it has more than `bytes_max` bytes of UTF-8."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - 3].decode("utf-8", "ignore") + "..."


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


async def abort(context: grpc.aio.ServicerContext[object, object], error: Exception) -> NoReturn:
    """End a call with an error.

    RESOURCE_EXHAUSTED if the machine has no descriptor or memory left. Any other error that
    is not ours goes to the loop's exception handler, as if it had been raised
    in a callback, and the caller gets INTERNAL.
    """
    if isinstance(error, OSError) and error.errno in _NOTHING_LEFT:
        error = QuotaFull(f"the daemon: {error.strerror}; try again when other jobs or calls have ended")
    if not isinstance(error, KtaskError):
        context_of_error = {"message": "handler failed", "exception": error, "handler": True}
        asyncio.get_running_loop().call_exception_handler(context_of_error)
        error = KtaskError("internal error of the daemon; its log has the details")
    # abort_with_status exists on the async context, but not in its stubs.
    status = rpc_status.to_status(to_status(error))
    context.set_trailing_metadata(tuple(status.trailing_metadata or ()))
    await context.abort(status.code, status.details or "")
    raise AssertionError("abort returned")
